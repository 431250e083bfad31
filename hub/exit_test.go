package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/stream"
)

func TestHubThatExitsTakesInNothing(t *testing.T) {
	h := testHub(t, Config{})
	in := testSession(t, h, "192.0.2.1")
	if err := add(h, in); err != nil {
		t.Fatal(err)
	}
	if h.Draining() {
		t.Error("it drains already")
	}
	for range 2 {
		h.Drain(0)
	}
	if !h.Draining() {
		t.Error("it does not drain")
	}
	if err := add(h, testSession(t, h, "192.0.2.1")); !errors.Is(err, ErrExiting) {
		t.Errorf("got %v", err)
	}
	if err := h.AddPoll("192.0.2.1", ""); !errors.Is(err, ErrExiting) {
		t.Errorf("a poll: got %v", err)
	}
	<-in.Stream.Done()
	if got := in.Stream.Reason(); got != stream.ReasonShutdown {
		t.Errorf("the stream ended for %q", got)
	}
}

// waitingHub is a hub that drains, with one stream that does not leave.
func waitingHub(t *testing.T, drain time.Duration) (*Hub, *Session) {
	t.Helper()
	h := testHub(t, Config{})
	s := testSession(t, h, "192.0.2.1")
	if err := h.Add(s, Standing{Caller: access.AnonymousCaller(), Drain: drain}); err != nil {
		t.Fatal(err)
	}
	h.Drain(0)
	return h, s
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := waitingHub(t, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		h.Wait(ctx)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

func TestWaitEndsWhenTheLastStreamHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := waitingHub(t, time.Minute)
		time.AfterFunc(2*time.Second, func() { h.Remove(s) })
		begun := time.Now()
		h.Wait(t.Context())
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

// A stream that does not end, whatever is done, does not hold up the exit for
// longer than its drain time and what is left for pressing it.
func TestWaitIsBoundedByTheDrainTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := waitingHub(t, time.Minute)
		begun := time.Now()
		h.Wait(t.Context())
		if took := time.Since(begun); took != time.Minute+2*exitSlack {
			t.Errorf("it waited %s", took)
		}
	})
}
