//go:build !linux

package bench

import (
	"context"
	"time"
)

// sleeper waits for a time.
type sleeper struct{}

func newSleeper() *sleeper { return &sleeper{} }

// until waits, and returns false if ctx has ended.
func (*sleeper) until(ctx context.Context, at time.Time) bool { return sleepUntil(ctx, at) }

func (*sleeper) close() {}
