package httpapi

import (
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// beginning begins a stream. An attached stream holds the goroutine of its handler for as
// long as it lasts, and a stack that has grown stays large: so what needs a large stack runs
// on a goroutine that ends. A stream that will be detached begins on its handler's, which
// ends, too: to grow another stack is a tenth of what the stream costs to begin.
type beginning struct {
	live     *live // of an attached stream, to be waited for
	err      error
	panicked any
	over     sync.WaitGroup
}

// subscribe serves a stream: until it ends, or until it is detached.
func (h *Handler) subscribe(w http.ResponseWriter, r *http.Request, t resource, q query.Query) error {
	if err := h.hub.MayConnect(h.host.ClientIP(r)); err != nil {
		// A raw stream cannot say that it is none.
		raw, _ := q.Flag("raw", false)
		return h.turnAway(w, raw, err)
	}
	return h.serve(r, func() (*live, error) { return h.begin(w, r, t, q) })
}

// serve serves the stream that begin begins.
func (h *Handler) serve(r *http.Request, begin func() (*live, error)) error {
	a := new(beginning)
	if conn := h.host.Conn(r); h.mayDetach(r, conn) && h.hub.WillDetach(r, conn) {
		a.run(begin)
	} else {
		a.over.Go(func() { a.run(begin) })
		a.over.Wait()
	}
	live, err, panicked := a.live, a.err, a.panicked // what is not needed any more can be freed
	if panicked != nil {
		panic(panicked) // on the handler's goroutine, where the server recovers it
	}
	if live != nil {
		defer h.host.AddLog(r, live.Stream) // also if Wait panics
		defer h.host.RestoreDeadlines(r, h.stream.WriteTimeout)
		live.Stream.Wait()
	}
	return err
}

func (a *beginning) run(begin func() (*live, error)) {
	defer func() { a.panicked = recover() }()
	a.live, a.err = begin()
}

// live is a stream that is being served.
type live struct {
	*hub.Session
	log StreamLog // of a detached stream; else nil. Set before the stream begins
}

// begin begins the stream that a request asks for. It returns the stream if it is attached
// and has to be waited for, and nil if it is detached or the request was refused.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, t resource, q query.Query) (*live, error) {
	rd, err := h.reading(r, t, q, newStream)
	if err != nil {
		return nil, h.unread(w, r, err)
	}
	s := &Held{Caller: rd.who, Subscribe: rd.options, Ignored: h.accepts.Ignored(query.Stream, q)}
	if err := s.readFlags(q); err != nil {
		return nil, h.fail(w, err)
	}
	asks, err := q.Flag("presence", false)
	if err == nil && asks && s.Raw {
		err = problem.BadParameter.Because("presence is told by events of the hub's own, and raw=1 leaves these out: only one of both can be")
	}
	if err == nil && asks {
		s.Watch, err = h.watched(rd.who, rd.options.Channels)
	}
	if err != nil {
		return nil, h.fail(w, err)
	}
	if s.isOver() {
		w.WriteHeader(http.StatusNoContent)
		return nil, nil
	}
	if err := bodies.Ignore(w, r); err != nil {
		return nil, h.fail(w, err)
	}
	if rd.who.Event != nil {
		s.Events = []sse.Event{*rd.who.Event}
	}
	return h.hold(w, r, s)
}

// endStream is called when a stream that was served has ended. It logs the stream
// before it removes it: when the last stream is removed, an exit goes on and closes the
// logs.
func endStream(h *hub.Hub, l *live) {
	if l.log != nil {
		HandlerOf(h, l.Session).host.EndLog(l.log, l.Stream)
	}
	h.Remove(l.Session)
}

// beginLive lifts the server's timeouts and begins a stream, detached if possible.
func (h *Handler) beginLive(w http.ResponseWriter, r *http.Request, l *live, raw bool) (*live, error) {
	h.longRequest(w, r, 0) // without done: nothing is written after a stream
	detached, err := h.detach(w, r, l)
	if !detached {
		h.host.DisableDeadlines(r)
		err = l.Stream.Begin(w, r, h.host.Conn(r))
	}
	switch {
	case err != nil:
		h.host.RestoreDeadlines(r, h.stream.WriteTimeout)
		// An exit or a reload has ended it before it began.
		h.hub.Withdraw(l.Session)
		if h.hub.Draining() {
			return nil, h.turnAway(w, raw, hub.ErrExiting)
		}
		return nil, h.turnAway(w, raw, ErrReplaced)
	case detached:
		h.hub.Served(l.Session)
		return nil, nil
	}
	h.hub.Served(l.Session)
	return l, nil
}

// mayDetach reports whether the configuration lets a stream of r be detached, which came
// over conn.
func (h *Handler) mayDetach(r *http.Request, conn net.Conn) bool {
	switch {
	case h.stream.Attached:
		return false
	case r.ProtoMajor == 3:
		return h.taker != nil
	}
	return conn != nil
}

// detach begins a stream detached. If that is not possible it does nothing and returns
// false.
func (h *Handler) detach(w http.ResponseWriter, r *http.Request, l *live) (bool, error) {
	conn, isHTTP3 := h.host.Conn(r), r.ProtoMajor == 3
	if !h.mayDetach(r, conn) {
		return false, nil
	}
	over := w
	if l.log = h.host.BeginLog(r, h.hub.Standing(l.Session).Owner.(*owner).record); l.log != nil {
		over = l.log.Wrap(w)
	}
	var detached bool
	var err error
	if isHTTP3 {
		detached, err = l.Stream.DetachStream(over, h.taker)
	} else {
		detached, err = l.Stream.Detach(over, r, conn)
	}
	if l.log != nil && (!detached || err != nil) {
		l.log.Cancel(r)
		l.log = nil
	}
	return detached, err
}

// turnAway answers a subscriber that is over a limit, and counts it. By default
// it is asked to come back, because any status but 200 ends an EventSource for
// good. Where waiting does not help the answer is an error all the same, and where the
// stream is raw, which cannot say that it is none.
func (h *Handler) turnAway(w http.ResponseWriter, raw bool, err error) error {
	if wait := h.countRefusal(err); !wait || raw || h.overload == http.StatusServiceUnavailable {
		return h.fail(w, err)
	}
	stream.Refuse(w, problem.Of(err).Detail, h.stream.RetryMin, h.stream.RetryMax)
	return nil
}

// countRefusal counts a subscriber that is turned away, once for each: by a limit,
// or because it has to wait. Who may not subscribe, or asks for what cannot be, is
// not counted. It reports whether waiting helps.
func (h *Handler) countRefusal(err error) (wait bool) {
	s := problem.Of(err).Status()
	wait = s == http.StatusServiceUnavailable || s == http.StatusTooManyRequests
	if wait || problem.ReasonOf(err) != "" {
		h.hub.Refused(err)
	}
	return wait
}

// unread answers a subscriber that reading has refused. If it cannot be decided now who
// it is, it is asked to come back, like one that is over a limit.
func (h *Handler) unread(w http.ResponseWriter, r *http.Request, err error) error {
	if isUndecided(err) {
		raw, _ := query.Query(r.URL.RawQuery).Flag("raw", false)
		return h.turnAway(w, raw, err)
	}
	return h.fail(w, err)
}

// isUndecided reports whether it cannot be told now who makes a request, because
// an application or keys do not answer, other nodes were not heard, or too many
// credentials of its address were refused.
func isUndecided(err error) bool {
	return errors.Is(err, auth.ErrNoKeys) || errors.Is(err, auth.ErrNoAnswer) || errors.Is(err, hub.ErrBehind) || errors.Is(err, hub.ErrRefusedRate)
}
