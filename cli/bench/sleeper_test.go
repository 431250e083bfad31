package bench

import (
	"context"
	"testing"
	"time"
)

// What waits is woken by the end of its context, and never too early.
func TestASleeperWaitsUntilItsTimeOrTheEnd(t *testing.T) {
	s := newSleeper()
	defer s.close()
	for range 3 { // it is used again
		at := time.Now().Add(2 * time.Millisecond)
		if !s.until(t.Context(), at) || time.Now().Before(at) {
			t.Error("it has not waited")
		}
	}
	if !s.until(t.Context(), time.Now().Add(-time.Second)) {
		t.Error("it waits for what is over")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if s.until(ctx, time.Now().Add(time.Hour)) || s.until(ctx, time.Now().Add(-time.Second)) {
		t.Error("the context has ended")
	}
	if !s.until(t.Context(), time.Now().Add(time.Millisecond)) {
		t.Error("it cannot be used after that")
	}
}
