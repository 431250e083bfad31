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

// logTimeout is how long a request waits for this node to catch up.
const logTimeout = 3 * time.Second

// staleHeader says for how many seconds the log has been out of reach. The answer
// may lack what was written since then.
const staleHeader = "Evstream-Stale"

// reach waits until this node has the event that the client resumes after.
func (h *Handler) reach(r *http.Request, start broker.Start) error {
	if start.LastEventID == "" {
		return nil
	}
	return withLogTimeout(r.Context(), func(ctx context.Context) error {
		return h.hub.Broker().Reach(ctx, start.LastEventID)
	})
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
