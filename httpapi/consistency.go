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

// How up to date this node is, where its log is not in this process: what a
// reader has seen or written at another node it may not have yet.

// logTimeout is how long a request waits for this node to catch up.
const logTimeout = 3 * time.Second

// staleHeader tells for how many seconds the log has been out of reach, where
// an answer may lack what was written since.
const staleHeader = "Evstream-Stale"

// reach waits until this node has the event that a client goes on from.
func (h *Handler) reach(r *http.Request, start broker.Start) error {
	if start.LastEventID == "" {
		return nil
	}
	return withLogTimeout(r.Context(), func(ctx context.Context) error {
		return h.hub.Broker().Reach(ctx, start.LastEventID)
	})
}

// withLogTimeout waits for the log, but not for long.
func withLogTimeout(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	err := wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return broker.ErrUnavailable
	}
	return err
}

// current says of an answer that it may be old, if it may. Who asks for no-cache
// gets one that has all that was written anywhere before, or none.
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

// markStale says of an answer that it may be old.
func (h *Handler) markStale(w http.ResponseWriter) {
	if seconds := staleFor(h.hub.Broker()); seconds > 0 {
		w.Header().Set(staleHeader, strconv.Itoa(seconds))
	}
}

// staleFor is for how many seconds the log has been out of reach, rounded up; 0
// if it is not.
func staleFor(b *broker.Broker) int {
	since, stale := b.Stale()
	if !stale {
		return 0
	}
	return max(1, int((time.Since(since)+time.Second-1)/time.Second))
}

// wantsFresh reports whether a client wants no answer that may be old. Browsers
// ask so when a page is reloaded past their cache.
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
