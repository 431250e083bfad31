package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/stream"
)

// Reload says what becomes of requests that outlive the configuration of their
// handler. All handlers of one configuration have the same Reload, which must be
// comparable and safe for concurrent use.
type Reload interface {
	// Replaced is closed when another configuration has taken the place of this
	// one; nil is never.
	Replaced() <-chan struct{}
	// Successor finds the handler that a request to old would reach now; record is
	// what Host.Record returned for it, and was its caller. Successor calls judge with
	// the handler that it found and returns the caller that judge says. If the request
	// may reach several handlers, judge has to allow all of them. The error is
	// ErrReplaced if there is no handler, and else the error of judge. With ErrRerouted
	// Successor returns the handler and the caller, too.
	Successor(old *Handler, record any, was *access.Caller, judge Judge) (*Handler, *access.Caller, error)
}

// Judge decides whether a handler would allow a request that is made again, and returns
// who makes it by now.
type Judge func(next *Handler, r *http.Request) (*access.Caller, error)

// ErrReplaced says that the configuration was replaced, and that in the new one there is
// no handler for a request.
var ErrReplaced = errkind.New("unavailable", "reload", "the configuration was replaced")

// ErrRerouted says that the configuration was replaced, and that a request reaches its
// handler in another way: what stands in front has not seen it, so it has to be made again.
var ErrRerouted = errkind.New("unavailable", "reload", "the configuration was replaced, and what stands before the handler has changed; make the request again")

// replaced is closed when the handler's configuration has been replaced. It is nil if
// that never happens.
func (h *Handler) replaced() <-chan struct{} {
	if h.reload == nil {
		return nil
	}
	return h.reload.Replaced()
}

// isReplaced reports whether the handler's configuration has been replaced.
func (h *Handler) isReplaced() bool {
	select {
	case <-h.replaced():
		return true
	default:
		return false
	}
}

// follow returns the handler and the caller that a long request goes on with: those of
// the new configuration, by its rules, if the handler's was replaced.
func (h *Handler) follow(r *http.Request, was *access.Caller, judge Judge) (*Handler, *access.Caller, error) {
	if !h.isReplaced() {
		return h, was, nil
	}
	return h.reload.Successor(h, h.host.Record(r), was, judge)
}

// handOvers is how many streams are judged concurrently.
const handOvers = 64

// HandOver hands the streams of h whose handlers have the Reload from over to the
// successors of their handlers. A stream without a successor ends, and so does one that
// the new rules do not allow; a judge that panics counts as a refusal. Streams are
// judged concurrently. HandOver returns when all have been judged: how many there were,
// how many of them the new rules refuse, and how many others end.
func HandOver(h *hub.Hub, from Reload) (all, refused, ended int) {
	var work sync.WaitGroup
	var refusals, ends atomic.Int64
	turns := make(chan struct{}, handOvers)
	for _, s := range h.Sessions() {
		l, ok := h.Standing(s).Owner.(*owner)
		if !ok || l.handler.reload != from {
			continue
		}
		all++
		turns <- struct{}{}
		work.Go(func() {
			defer func() { <-turns }()
			switch drain, err := handOver(h, s); {
			case errors.Is(err, ErrReplaced):
				ends.Add(1)
				s.Stream.Close(stream.ReasonReload)
			case err != nil && !errors.Is(err, ErrRerouted):
				refusals.Add(1)
				s.Stream.Close(stream.ReasonRefused)
			case err != nil || drain > 0:
				ends.Add(1)
				s.Stream.Drain(drain, stream.ReasonReload)
			}
		})
	}
	work.Wait()
	return all, int(refusals.Load()), int(ends.Load())
}

// handOver hands one stream over. On error the caller has to end it; with ErrRerouted it
// is handed over, and may end within drain. Without an error drain is the time over which
// a stream that is served ends for the reload, 0 if it goes on.
func handOver(h *hub.Hub, s *hub.Session) (drain time.Duration, err error) {
	was := h.Standing(s)
	old := was.Owner.(*owner)
	defer func() {
		if p := recover(); p != nil {
			old.handler.logger.Error("a panic while a stream was checked after a reload: the stream ends",
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			drain, err = 0, fmt.Errorf("a panic: %v", p)
		}
	}()
	judge := old.judge
	if judge == nil {
		judge = judgeOf(h, s)
	}
	next, who, err := old.handler.reload.Successor(old.handler, old.record, was.Caller, judge)
	rerouted := errors.Is(err, ErrRerouted)
	if err != nil && !rerouted {
		return 0, err
	}
	if next == old.handler {
		if old.handler.isReplaced() {
			return 0, ErrReplaced
		}
		return 0, nil
	}
	now := &owner{handler: next, record: old.record, judge: old.judge}
	if !h.SetStanding(s, was.Owner, hub.Standing{Caller: who.Kept(), Drain: next.stream.Drain, MayRead: next.mayJoin, Owner: now}) {
		return 0, nil // another goroutine has handed it over
	}
	next.rejudge(s, who) // what it has joined meanwhile
	if rerouted {
		return next.stream.Drain, err
	}
	return old.handler.stream.OnReloadDrain, nil
}

// rejudge has a session leave the channels that it has joined and may not read.
func (h *Handler) rejudge(s *hub.Session, who *access.Caller) {
	h.hub.Rejudge(s, func(name string, by *access.Caller) bool {
		if by == nil {
			return h.mayJoin(who, name)
		}
		return by.Admin || h.access.Decide(by, access.UseSessions, name).Allowed
	})
}

// judgeOf returns the Judge of a stream: all channels that it began with must be allowed;
// those that it has joined and may not read it leaves. The time at which a stream
// expires cannot change, so if the credential by now expires at another time, the stream
// has to begin again; also if it would be told of other channels who is there.
func judgeOf(h *hub.Hub, s *hub.Session) Judge {
	return func(next *Handler, r *http.Request) (*access.Caller, error) {
		who, err := next.mayRead(r, h.BeganWith(s), newStream)
		if err == nil {
			next.rejudge(s, who)
		}
		if err == nil && s.Watch != nil {
			if watch, refused := next.watched(who, h.BeganWith(s)); refused != nil || !slices.Equal(watch, s.Watch) {
				err = ErrReplaced
			}
		}
		if err == nil && !who.Expires.Equal(auth.Previous(r).Expires) {
			err = ErrReplaced
		}
		return who, err
	}
}

// HandlerOf returns the handler that serves a stream by now, nil if no Handler does.
func HandlerOf(h *hub.Hub, s *hub.Session) *Handler {
	if by, ok := h.Standing(s).Owner.(*owner); ok {
		return by.handler
	}
	return nil
}

// owner is the owner of a hub.Standing: who serves the stream. It is immutable.
type owner struct {
	handler *Handler
	record  any   // of the request that began it: see Host.Record
	judge   Judge // of Held; nil for the rules of a handler
}
