package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Where the log is shared, this node may lag behind: it may not have yet what a
// client has read or written at another node.

// logTimeout is how long a request waits for this node to catch up, and loadTimeout how
// long for events that the log has retained and is still reading.
const (
	logTimeout  = 3 * time.Second
	loadTimeout = 30 * time.Second
)

// staleHeader says for how many seconds the log has been out of reach. The answer
// may lack what was written since then.
const staleHeader = "Evstream-Stale"

// reach waits until this node has what the client begins with.
func (h *Handler) reach(r *http.Request, start broker.Start) error {
	b := h.hub.Broker()
	if start == (broker.Start{}) {
		return nil
	}
	if !b.Complete() {
		ctx, cancel := context.WithTimeout(r.Context(), loadTimeout)
		defer cancel()
		return b.Reach(ctx, start)
	}
	return withLogTimeout(r.Context(), func(ctx context.Context) error { return b.Reach(ctx, start) })
}

// whole waits until this node has all events that the log has retained, as current does
// for the answer.
func (h *Handler) whole(w http.ResponseWriter, r *http.Request) error {
	if err := h.reach(r, broker.Start{Earliest: true}); err != nil {
		return err
	}
	return h.current(w, r)
}

// withLogTimeout calls wait with logTimeout. When that is over the error is
// broker.ErrUnavailable.
func withLogTimeout(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	err := wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return broker.ErrUnavailable
	}
	return err
}

// current prepares an answer that is read from this node's memory. It marks the
// answer if it may be old. For a client that sends no-cache it first waits for all
// that was written at any node before; the error says that this failed.
func (h *Handler) current(w http.ResponseWriter, r *http.Request) error {
	b := h.hub.Broker()
	if err := b.Loaded(); err != nil {
		return err
	}
	if wantsFresh(r) {
		if err := withLogTimeout(r.Context(), b.Sync); err != nil {
			return err
		}
	}
	h.markStale(w)
	return nil
}

// markStale sets staleHeader if the answer may be old.
func (h *Handler) markStale(w http.ResponseWriter) {
	if seconds := staleFor(h.hub.Broker()); seconds > 0 {
		w.Header().Set(staleHeader, strconv.Itoa(seconds))
	}
}

// staleFor is for how many seconds the log has been out of reach, rounded up; 0
// if it is in reach.
func staleFor(b *broker.Broker) int {
	since, stale := b.Stale()
	if !stale {
		return 0
	}
	return max(1, int((time.Since(since)+time.Second-1)/time.Second))
}

// wantsFresh reports whether the client sends no-cache, as browsers do when a page
// is reloaded without their cache.
func wantsFresh(r *http.Request) bool {
	for _, line := range r.Header["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-cache") {
				return true
			}
		}
	}
	return false
}
