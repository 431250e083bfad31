// Package redistest runs real Redis servers for tests, alone, replicated, with
// Sentinels or as a cluster, and a proxy in front of them that makes faults.
//
// All that is started ends with its test. On Linux a server does not even outlive
// a test process that is killed. The log of a test that fails has the output of
// its servers.
//
// Functions and methods fail the test with t.Fatal, so that they are for the
// goroutine of the test, unless they say otherwise.
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
