package hub

import (
	"context"
	"time"

	"github.com/evstream/caddy-evstream/stream"
)

// Exit returns a chan that is closed when the hub begins to drain.
func (h *Hub) Exit() <-chan struct{} { return h.exit }

// Draining reports whether Drain was called: new subscribers are refused with
// ErrExiting.
func (h *Hub) Draining() bool {
	select {
	case <-h.exit:
		return true
	default:
		return false
	}
}

// exitSlack is the time after its drain time that a stream may take to end.
const exitSlack = 500 * time.Millisecond

// lastWords is the part of a grace period, at its end, that is left for writing the
// last frames of streams. The server closes connections when the period is over.
const lastWords = 500 * time.Millisecond

// drainEach is the share of the drain time for each stream. Fewer streams take less
// time: that not all clients come back at once needs no longer.
const drainEach = 10 * time.Millisecond

// Drain begins the exit: no stream is taken in any more, and each that is in ends
// at a random moment of its drain time, which is bounded by grace if that is not 0,
// and by 10 ms for each stream of the hub.
// Drain does not wait for them: see Wait. Further calls do nothing.
func (h *Hub) Drain(grace time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exiting {
		return
	}
	h.exiting = true
	close(h.exit)
	if len(h.sessions) == 0 {
		close(h.empty)
	}
	for _, s := range h.sessions {
		most := drainWithin(s.standing.Drain, grace)
		h.drain = max(h.drain, most)
		within := min(most, time.Duration(len(h.sessions))*drainEach)
		s.Stream.Drain(within, stream.ReasonShutdown)
		time.AfterFunc(within+exitSlack, func() { press(s.Stream) })
	}
}

// drainWithin bounds a drain time by the grace period; 0 bounds nothing.
func drainWithin(drain, grace time.Duration) time.Duration {
	if grace > 0 {
		return min(drain, grace-min(lastWords, grace/2))
	}
	return drain
}

// press ends a stream whose drain time is over. A client that does not read would
// hold up the exit until the write times out. Abort ends only the write that is in
// progress, and the next may be stalled again, so press repeats it.
func press(s *stream.Session) {
	select {
	case <-s.Done():
	default:
		s.Abort()
		time.AfterFunc(exitSlack, func() { press(s) })
	}
}

// Wait returns when the last stream of a hub that drains has left, when the longest
// drain time is over, or when ctx ends. A server needs it for detached streams: for
// attached ones it waits itself, until their handlers have returned. Before Drain
// was called nothing is drained, and Wait returns after a second.
func (h *Hub) Wait(ctx context.Context) {
	h.mu.Lock()
	within := h.drain + 2*exitSlack
	h.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-h.empty:
	case <-timer.C:
	case <-ctx.Done():
	}
}
