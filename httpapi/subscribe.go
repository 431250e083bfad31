package httpapi

import (
	"errors"
	"net/http"
	"sync"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// beginning begins a stream on a goroutine of its own. An attached stream holds the
// goroutine of its handler for as long as it lasts, and a stack that has grown stays
// large. So what needs a large stack runs on a goroutine that ends.
type beginning struct {
	live     *live // of an attached stream, to be waited for
	err      error
	panicked any
	over     sync.WaitGroup
}

// subscribe serves a stream: until it ends, or until it is detached.
func (h *Handler) subscribe(w http.ResponseWriter, r *http.Request, t resource, q query.Query) error {
	if err := h.hub.MayConnect(h.host.ClientIP(r)); err != nil {
		return h.turnAway(w, r, err)
	}
	a := new(beginning)
	a.over.Go(func() { a.run(h, w, r, t, q) })
	a.over.Wait()
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

func (a *beginning) run(h *Handler, w http.ResponseWriter, r *http.Request, t resource, q query.Query) {
	defer func() { a.panicked = recover() }()
	a.live, a.err = h.begin(w, r, t, q)
}

// live is a stream that is being served.
type live struct {
	*hub.Session
	log StreamLog // of a detached stream; else nil. Set before the stream begins
}

// begin begins a stream. It returns the stream if it is attached and has to be waited
// for, and nil if it is detached or the request was refused.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, t resource, q query.Query) (*live, error) {
	rd, err := h.reading(r, t, q, newStream)
	if err != nil {
		return nil, h.unread(w, r, err)
	}
	options, err := h.streamOptions(rd.options, q)
	if err != nil {
		return nil, h.fail(w, err)
	}
	var watch []string
	asks, err := q.Flag("presence", false)
	if err == nil && asks && options.Raw {
		err = problem.BadParameter.Because("presence is told by events of the hub's own, and raw=1 leaves these out: only one of both can be")
	}
	if err == nil && asks {
		watch, err = h.watched(rd.who, rd.options.Channels)
	}
	if err != nil {
		return nil, h.fail(w, err)
	}
	if rd.options.Start.LastEventID == stream.EndID {
		// The stream was ended on purpose. Status 204 stops an EventSource.
		w.WriteHeader(http.StatusNoContent)
		return nil, nil
	}
	if err := ignoreBody(w, r); err != nil {
		return nil, h.fail(w, err)
	}
	if h.hub.Draining() {
		return nil, h.turnAway(w, r, hub.ErrExiting)
	}
	if err := h.reach(r, rd.options.Start); err != nil {
		return nil, h.turnAway(w, r, err)
	}
	options.Expires = rd.who.Expires
	l := &live{Session: &hub.Session{Address: h.host.ClientIP(r), Protocol: uint8(r.ProtoMajor), Watch: watch}}
	share := hub.ShareOf(rd.who, l.Address)
	options.Subscribe.Owner, options.Subscribe.Looks = broker.OwnerOf(share), h.hub.LooksOf(share)
	kept := rd.who.Kept()
	options.Subscribe.Audience = kept
	hub := h.hub
	options.OnEnd = func() { endStream(hub, l) }
	if l.Stream, err = hub.NewStream(options); err != nil {
		return nil, h.turnAway(w, r, err)
	}
	if err := h.add(l, r, kept); err != nil {
		l.Stream.Close(stream.ReasonRefused)
		return nil, h.turnAway(w, r, err)
	}
	if rd.who.Event != nil {
		_ = l.Stream.Push(r.Context(), *rd.who.Event) // there is room in a stream that has not begun
	}
	return h.beginLive(w, r, l)
}

// add adds the stream to the hub. who is what it keeps of its caller. The configuration may have been replaced just before,
// and HandOver may have run without this stream: then it is handed over here.
func (h *Handler) add(l *live, r *http.Request, who *access.Caller) error {
	standing := hub.Standing{Caller: who, Drain: h.stream.Drain, MayRead: h.mayJoin, Owner: &owner{handler: h, record: h.host.Record(r)}}
	if err := h.hub.Add(l.Session, standing); err != nil {
		return err
	}
	for by := h; by.isReplaced(); by = HandlerOf(h.hub, l.Session) {
		if _, err := handOver(h.hub, l.Session); err != nil {
			h.hub.Withdraw(l.Session)
			return ErrReplaced
		}
	}
	return nil
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

func (h *Handler) streamOptions(o broker.SubscribeOptions, q query.Query) (stream.Options, error) {
	options := stream.Options{
		Subscribe:      o,
		Heartbeat:      h.stream.Heartbeat,
		HeartbeatEvent: h.stream.HeartbeatEvent,
		RetryMin:       h.stream.RetryMin,
		RetryMax:       h.stream.RetryMax,
		WriteTimeout:   h.stream.WriteTimeout,
		MaxAge:         h.stream.MaxAge,
		Ignored:        h.accepts.Ignored(query.Stream, q),
	}
	open, err := q.Flag("open", true)
	if err != nil {
		return options, err
	}
	options.NoOpen = !open
	if options.Raw, err = q.Flag("raw", false); err != nil {
		return options, err
	}
	for _, name := range []string{"padding", "evs_preamble"} {
		padding, err := q.Flag(name, false)
		if err != nil {
			return options, err
		}
		options.Padding = options.Padding || padding
	}
	return options, nil
}

// beginLive lifts the server's timeouts and begins a stream, detached if possible.
func (h *Handler) beginLive(w http.ResponseWriter, r *http.Request, l *live) (*live, error) {
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
			return nil, h.turnAway(w, r, hub.ErrExiting)
		}
		return nil, h.turnAway(w, r, ErrReplaced)
	case detached:
		h.hub.Served(l.Session)
		return nil, nil
	}
	h.hub.Served(l.Session)
	return l, nil
}

// detach begins a stream detached. If that is not possible it does nothing and returns
// false.
func (h *Handler) detach(w http.ResponseWriter, r *http.Request, l *live) (bool, error) {
	conn := h.host.Conn(r)
	if conn == nil || h.stream.Attached {
		return false, nil
	}
	over := w
	if l.log = h.host.BeginLog(r, h.hub.Standing(l.Session).Owner.(*owner).record); l.log != nil {
		over = l.log.Wrap(w)
	}
	detached, err := l.Stream.Detach(over, r, conn)
	if l.log != nil && (!detached || err != nil) {
		l.log.Cancel(r)
		l.log = nil
	}
	return detached, err
}

// turnAway answers a subscriber that is over a limit, and counts it. By default
// it is asked to come back, because any status but 200 ends an EventSource for
// good; where waiting does not help, the answer is an error all the same.
func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, err error) error {
	// A raw stream cannot say that it is none.
	raw, _ := query.Query(r.URL.RawQuery).Flag("raw", false)
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
		return h.turnAway(w, r, err)
	}
	return h.fail(w, err)
}

// isUndecided reports whether it cannot be told now who makes a request, because
// an application or keys do not answer, other nodes were not heard, or too many
// credentials of its address were refused.
func isUndecided(err error) bool {
	return errors.Is(err, auth.ErrNoKeys) || errors.Is(err, auth.ErrNoAnswer) || errors.Is(err, hub.ErrBehind) || errors.Is(err, hub.ErrRefusedRate)
}
