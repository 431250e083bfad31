// Package redistest runs real Redis servers for tests, alone, replicated, under
// Sentinel or as a cluster, and a proxy that disturbs the way to them.
//
// Whatever is started belongs to a test and ends with it. On Linux a server
// does not even outlive a test process that is killed. What a server wrote is
// in the log of a test that failed.
//
// Functions and methods end the test when they cannot do what they say, so
// they are for the goroutine of the test, unless they say otherwise.
package redistest

import (
	"context"
	"testing"
	"time"
)

// patience is how long to wait for what must happen.
const patience = 30 * time.Second

// await calls ok until it returns nil.
func await(t testing.TB, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := error(nil); ; {
		err := ok(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s in vain for %s: %v", patience, what, last)
		case <-tick.C:
		}
	}
}
