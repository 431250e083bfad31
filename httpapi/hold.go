package httpapi

import (
	"net/http"
	"slices"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/starts"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// Held is a stream that is decided on: who gets what.
type Held struct {
	// Caller is who reads, for limits, filters and presence. Required; the stream ends
	// when the caller's credential expires.
	Caller *access.Caller
	// Subscribe is what is read, and where it begins. Its Owner, Looks and Audience are
	// set by Hold.
	Subscribe broker.SubscribeOptions
	// Events are what the client gets first. They are in no history.
	Events []sse.Event

	// Opening is what the stream begins with, verbatim, and Rewriter has a say in what is
	// written: see stream.Options. Audience, if it is set, is who reads for the filters of
	// events; by default it is Caller. Begin, if it is set, gets the stream before it is
	// served.
	Opening  []byte
	Rewriter stream.Rewriter
	Audience broker.Audience
	Begin    func(*stream.Session)

	// Watch are the channels whose presence is told. Default: none.
	Watch []string
	// Raw, Whole, NoOpen, Padding and Ignored are those of stream.Options.
	Raw, Whole, NoOpen, Padding bool
	Ignored                     []string

	// Retries says that the client is one that comes back, such as an EventSource, though the
	// stream is raw: over a limit it is asked to, as that of a stream that is not raw.
	Retries bool

	// Header goes out with the stream, and not with a refusal.
	Header http.Header

	// Judge decides after a reload whether the stream may go on. Default: the rules of
	// the handler by then.
	Judge Judge
}

// readFlags reads how a stream is to be written.
func (s *Held) readFlags(q query.Query) error {
	open, err := q.Flag("open", true)
	if err != nil {
		return err
	}
	s.NoOpen = !open
	if s.Raw, err = q.Flag("raw", false); err != nil {
		return err
	}
	for _, name := range []string{"padding", "evs_preamble"} {
		padding, err := q.Flag(name, false)
		if err != nil {
			return err
		}
		s.Padding = s.Padding || padding
	}
	return nil
}

// isOver reports whether the stream was ended on purpose before. Status 204 stops an
// EventSource.
func (s *Held) isOver() bool { return s.Subscribe.Start.LastEventID == stream.EndID }

// CursorOf is the cursor that a client sends to resume from, in whatever spelling; "" for
// none. The error is about one that is given twice.
func CursorOf(r *http.Request) (string, error) {
	return starts.CursorOf(r, query.Query(r.URL.RawQuery))
}

// AllowOrigin sets what lets pages of the origins that are configured read the answer.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) { h.cors.Headers(w.Header(), r) }

// Caller is who makes a request, by the handler's credentials.
func (h *Handler) Caller(r *http.Request) (*access.Caller, error) { return h.readerFor(r, newStream) }

// Require returns an error if the rules of the handler do not let who do something with a
// channel.
func (h *Handler) Require(who *access.Caller, do, channel string) error {
	return h.access.Require(who, do, channel)
}

// Refuse answers with the problem of err. The error is that of Host.Fail, for the server to
// answer.
func (h *Handler) Refuse(w http.ResponseWriter, err error) error { return h.fail(w, err) }

// Hold serves a stream that somebody else has decided on: until it ends, or until it is
// detached. Of the handler's configuration its rules do not apply, its limits do; who is
// over one gets the answer of a subscriber. What w.Header has goes out with the stream.
// What is left of the request's body is read and discarded. The error is that of
// Host.Fail, for the server to answer.
func (h *Handler) Hold(w http.ResponseWriter, r *http.Request, s *Held) error {
	if s.isOver() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := h.hub.MayConnect(h.host.ClientIP(r)); err != nil {
		return h.turnAway(w, s.Raw && !s.Retries, err)
	}
	if err := bodies.Discard(w, r, int64(max(h.maxBody, DefaultMaxBody))); err != nil {
		return h.fail(w, err)
	}
	return h.serve(r, func() (*live, error) { return h.hold(w, r, s) })
}

// hold begins a stream, as begin does.
func (h *Handler) hold(w http.ResponseWriter, r *http.Request, s *Held) (*live, error) {
	if h.hub.Draining() {
		return nil, h.turnAway(w, s.Raw && !s.Retries, hub.ErrExiting)
	}
	if err := h.reach(r, s.Subscribe.Start); err != nil {
		return nil, h.turnAway(w, s.Raw && !s.Retries, err)
	}
	l := &live{Session: &hub.Session{Address: h.host.ClientIP(r), Protocol: uint8(r.ProtoMajor), Watch: s.Watch}}
	kept := s.Caller.Kept()
	var err error
	if l.Stream, err = h.hub.NewStream(h.streamOptions(s, l, kept)); err != nil {
		return nil, h.turnAway(w, s.Raw && !s.Retries, err)
	}
	if s.Begin != nil {
		s.Begin(l.Stream)
	}
	if err := h.add(l, r, kept, s.Judge); err != nil {
		l.Stream.Close(stream.ReasonRefused)
		return nil, h.turnAway(w, s.Raw && !s.Retries, err)
	}
	for name, values := range s.Header {
		w.Header()[name] = slices.Clone(values) // handlers in front may add to them
	}
	_ = l.Stream.PushFirst(s.Events) // they were checked, and beginLive tells whether it has ended
	return h.beginLive(w, r, l, s.Raw)
}

// add adds the stream to the hub. who is what it keeps of its caller. The configuration
// may have been replaced just before, and HandOver may have run without this stream: then
// it is handed over here.
func (h *Handler) add(l *live, r *http.Request, who *access.Caller, judge Judge) error {
	standing := hub.Standing{
		Caller: who, Drain: h.stream.Drain, MayRead: h.mayJoin,
		Owner: &owner{handler: h, record: h.host.Record(r), judge: judge},
	}
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

func (h *Handler) streamOptions(s *Held, l *live, kept *access.Caller) stream.Options {
	options := stream.Options{
		Subscribe:      s.Subscribe,
		NoOpen:         s.NoOpen,
		Padding:        s.Padding,
		Raw:            s.Raw,
		Whole:          s.Whole,
		Opening:        s.Opening,
		Rewriter:       s.Rewriter,
		Ignored:        s.Ignored,
		Expires:        s.Caller.Expires,
		Heartbeat:      h.stream.Heartbeat,
		HeartbeatEvent: h.stream.HeartbeatEvent,
		RetryMin:       h.stream.RetryMin,
		RetryMax:       h.stream.RetryMax,
		WriteTimeout:   h.stream.WriteTimeout,
		MaxAge:         h.stream.MaxAge,
	}
	share := hub.ShareOf(s.Caller, l.Address)
	options.Subscribe.Owner, options.Subscribe.Looks = broker.OwnerOf(share), h.hub.LooksOf(share)
	if options.Subscribe.Audience = kept; s.Audience != nil {
		options.Subscribe.Audience = s.Audience
	}
	hub := h.hub
	options.OnEnd = func() { endStream(hub, l) }
	return options
}
