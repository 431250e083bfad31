package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/stream"
)

// Reload says what becomes of requests that outlive the configuration of their
// handler. It is comparable: the handlers of one configuration have the same.
type Reload interface {
	// Replaced is closed when another configuration has taken the place of this
	// one; nil is never.
	Replaced() <-chan struct{}
	// Successor finds the handler that a request to old, which Host.Record has
	// taken down, would reach now, and who makes it by what judge says. Where more
	// than one may be meant, judge must allow it for all of them. The error is
	// ErrReplaced if there is none, and else that of judge.
	Successor(old *Handler, record any, was *access.Caller, judge Judge) (*Handler, *access.Caller, error)
}

// Judge decides for a handler about a request that is made again: who makes it
// now, and an error if it would be refused.
type Judge func(next *Handler, r *http.Request) (*access.Caller, error)

// ErrReplaced says that a configuration was replaced by one in which there is
// nobody to go on with a request.
var ErrReplaced = errkind.New("unavailable", "reload", "the configuration was replaced")

// replaced is closed when another configuration has taken the place of the
// endpoint's. It is nil where that never happens.
func (h *Handler) replaced() <-chan struct{} {
	if h.reload == nil {
		return nil
	}
	return h.reload.Replaced()
}

// isReplaced reports whether another configuration has taken the place of the
// endpoint's.
func (h *Handler) isReplaced() bool {
	select {
	case <-h.replaced():
		return true
	default:
		return false
	}
}

// follow goes on with a request that has outlived its configuration, if it has:
// whoever polls, or publishes for long, is held to the rules of now.
func (h *Handler) follow(r *http.Request, was *access.Caller, judge Judge) (*Handler, *access.Caller, error) {
	if !h.isReplaced() {
		return h, was, nil
	}
	return h.reload.Successor(h, h.host.Record(r), was, judge)
}

// handOvers is how many streams are judged at a time.
const handOvers = 64

// HandOver hands the streams of a hub whose handlers have that Reload to their
// successors. A stream that has none ends, and so does one that may not go on.
// Streams are judged side by side; a judge that panics refuses.
func HandOver(h *hub.Hub, from Reload) {
	var work sync.WaitGroup
	defer work.Wait()
	turns := make(chan struct{}, handOvers)
	for _, s := range h.Sessions() {
		l, ok := h.Standing(s).Owner.(*owner)
		if !ok || l.handler.reload != from {
			continue
		}
		turns <- struct{}{}
		work.Go(func() {
			defer func() { <-turns }()
			if err := handOver(h, s); err != nil {
				reason := stream.ReasonRefused
				if errors.Is(err, ErrReplaced) {
					reason = stream.ReasonReload
				}
				s.Stream.Close(reason)
			}
		})
	}
}

// handOver hands a stream whose configuration was replaced to its successor.
func handOver(h *hub.Hub, s *hub.Session) (err error) {
	was := h.Standing(s)
	old := was.Owner.(*owner)
	defer func() {
		if p := recover(); p != nil {
			old.handler.logger.Error("a panic while a stream was checked after a reload: the stream ends",
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("a panic: %v", p)
		}
	}()
	next, who, err := old.handler.reload.Successor(old.handler, old.record, was.Caller, judgeOf(s.Stream))
	if err != nil {
		return err
	}
	if next == old.handler {
		if old.handler.isReplaced() {
			return ErrReplaced
		}
		return nil
	}
	now := &owner{handler: next, record: old.record}
	if !h.SetStanding(s, was.Owner, hub.Standing{Caller: who.Kept(), Drain: next.stream.Drain, Owner: now}) {
		return nil // another goroutine has handed it over
	}
	if within := old.handler.stream.OnReloadDrain; within > 0 {
		s.Stream.Drain(within, stream.ReasonReload)
	}
	return nil
}

// judgeOf is the judge of a stream: all that it reads must be allowed. When it
// ends was settled when it began; one that another credential decides about by
// now, which expires at another time, has to begin anew.
func judgeOf(s *stream.Session) Judge {
	return func(next *Handler, r *http.Request) (*access.Caller, error) {
		who, err := next.mayRead(r, s.Channels())
		if err == nil && !who.Expires.Equal(auth.Previous(r).Expires) {
			err = ErrReplaced
		}
		return who, err
	}
}

// HandlerOf is the handler that a stream has by now; nil if no Handler serves it.
func HandlerOf(h *hub.Hub, s *hub.Session) *Handler {
	if by, ok := h.Standing(s).Owner.(*owner); ok {
		return by.handler
	}
	return nil
}

// owner is what a handler knows of a stream that it serves. It does not change.
type owner struct {
	handler *Handler
	record  any // of the request that began it: see Host.Record
}
