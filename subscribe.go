package evstream

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// Bounds of what a subscriber may ask for.
const (
	maxLastEventID = 4 << 10
	maxTypes       = 100
)

// unknownCursor stands for a last event id that is too long to be one: no
// event can have an id with a NUL.
const unknownCursor = "\x00"

// reading is what a request asks to read, and who asks.
type reading struct {
	who     caller
	options broker.SubscribeOptions
}

// reader finds out who reads, and refuses what a page of a foreign origin has
// its visitor's browser ask for.
func (e *endpoint) reader(r *http.Request) (caller, error) {
	who, err := e.access.caller(r)
	if err == nil {
		err = e.cors.checkRead(r, who)
	}
	return e.cors.vouch(r, who), err
}

// mayRead decides about all that a request reads, and returns who reads.
func (e *endpoint) mayRead(r *http.Request, channels []string) (caller, error) {
	who, err := e.reader(r)
	for i := 0; err == nil && i < len(channels); i++ {
		err = e.access.require(who, doSubscribe, channels[i])
	}
	return who, err
}

// reading reads the request and decides whether it is allowed: every channel
// of it, before anything is written.
func (e *endpoint) reading(r *http.Request, t target, q query) (reading, error) {
	var rd reading
	var err error
	o := &rd.options
	if o.Channels, err = channelsOf(t, q); err != nil {
		return rd, err
	}
	if rd.who, err = e.mayRead(r, o.Channels); err != nil {
		return rd, err
	}
	if o.Start, err = startOf(r, q, time.Now()); err != nil {
		return rd, err
	}
	if o.Types, err = q.list("event"); err != nil {
		return rd, err
	}
	if len(o.Types) > maxTypes {
		return rd, badQuery.because("there are %d event types, at most %d are allowed", len(o.Types), maxTypes)
	}
	o.Envelope, err = q.flag("envelope", false)
	return rd, err
}

// channelsOf are the channels of the path and of the query, each once.
func channelsOf(t target, q query) ([]string, error) {
	channels, err := q.list("channel")
	if err != nil {
		return nil, err
	}
	if t.kind == targetChannel {
		for i, channel := range channels {
			if channel == t.name {
				channels = append(channels[:i], channels[i+1:]...)
				break
			}
		}
		channels = append([]string{t.name}, channels...)
	}
	if len(channels) == 0 {
		return nil, badQuery.because("no channel is named; name one in the path, or more with ?channel=")
	}
	return channels, nil
}

// startOf reads where to begin. A cursor is untrusted and never an error; the
// other parameters are what somebody wrote, and are.
func startOf(r *http.Request, q query, now time.Time) (start broker.Start, err error) {
	if start.LastEventID = r.Header.Get("Last-Event-ID"); start.LastEventID == "" {
		start.LastEventID, err = q.first("last_event_id", "lastEventId", "evs_last_event_id")
		if err != nil {
			return start, err
		}
	}
	if len(start.LastEventID) > maxLastEventID {
		start.LastEventID = unknownCursor
	}
	since, given, err := q.one("since")
	if err != nil {
		return start, err
	}
	if given {
		if start.Since, start.Earliest, err = parseSince(since, now); err != nil {
			return start, err
		}
	}
	last, given, err := q.one("last")
	if err != nil {
		return start, err
	}
	if given {
		if start.Last, err = strconv.Atoi(last); err != nil || start.Last < 0 {
			return start, badQuery.because("last is how many events to begin with, such as 10, not %q", clip(last))
		}
	}
	return start, nil
}

// parseSince reads earliest, a duration or a time.
func parseSince(s string, now time.Time) (since time.Time, earliest bool, err error) {
	if s == "earliest" {
		return time.Time{}, true, nil
	}
	if ago, err := caddy.ParseDuration(s); err == nil && ago > 0 {
		return now.Add(-ago), false, nil
	}
	// In a query a plus sign is a space.
	at, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	if err != nil {
		return time.Time{}, false, badQuery.because(
			"since is earliest, a duration such as 30s, or a time such as 2026-01-31T12:00:00Z, not %q", clip(s))
	}
	if at.After(now) {
		return time.Time{}, false, nil // whose clock is ahead begins now
	}
	return at, false, nil
}

// begin begins a stream. It returns the stream if that is attached, and nil if
// there is nothing to wait for: it is detached, or something else was answered.
func (e *endpoint) begin(w http.ResponseWriter, r *http.Request, t target, q query) (*live, error) {
	rd, err := e.reading(r, t, q)
	if err != nil {
		return nil, e.unread(w, err)
	}
	options, err := e.streamOptions(rd.options, q)
	if err != nil {
		return nil, e.fail(w, err)
	}
	if rd.options.Start.LastEventID == stream.EndID {
		// The stream was ended on purpose: this stops an EventSource.
		w.WriteHeader(http.StatusNoContent)
		return nil, nil
	}
	if err := ignoreBody(w, r); err != nil {
		return nil, e.fail(w, err)
	}
	if e.hub.draining() {
		return nil, e.turnAway(w, errExiting)
	}
	if err := e.reach(r, rd.options.Start); err != nil {
		return nil, e.turnAway(w, err)
	}
	options.Expires = rd.who.expires
	l := &live{endpoint: e, asked: remember(r), who: rd.who.kept(), address: clientAddress(r)}
	hub := e.hub
	options.OnEnd = func() { hub.end(l) }
	if l.session, err = e.hub.server.Session(options); err != nil {
		return nil, e.turnAway(w, err)
	}
	if err := e.hub.add(l); err != nil {
		l.session.Close(stream.ReasonRefused)
		return nil, e.turnAway(w, err)
	}
	if rd.who.welcome != nil {
		_ = l.session.Push(r.Context(), *rd.who.welcome) // there is room, before it is served
	}
	return e.beginLive(w, r, l)
}

func (e *endpoint) streamOptions(o broker.SubscribeOptions, q query) (stream.Options, error) {
	options := stream.Options{
		Subscribe:      o,
		Heartbeat:      e.stream.heartbeat,
		HeartbeatEvent: e.stream.heartbeatEvent,
		RetryMin:       e.stream.retryMin,
		RetryMax:       e.stream.retryMax,
		WriteTimeout:   e.stream.writeTimeout,
		MaxAge:         e.stream.maxAge,
	}
	if options.Heartbeat == 0 {
		options.Heartbeat = -1 // there, 0 is the default
	}
	open, err := q.flag("open", true)
	if err != nil {
		return options, err
	}
	options.NoOpen = !open
	for _, name := range []string{"padding", "evs_preamble"} {
		padding, err := q.flag(name, false)
		if err != nil {
			return options, err
		}
		options.Padding = options.Padding || padding
	}
	return options, nil
}

// beginLive lifts what would cut a stream and begins it, detached if that can
// be.
func (e *endpoint) beginLive(w http.ResponseWriter, r *http.Request, l *live) (*live, error) {
	unhurry(w, r, 0, e.stream.writeTimeout) // for good: nobody writes after a stream
	detached, err := e.detach(w, r, l)
	if !detached {
		undated(r)
		err = l.session.Begin(w, r, connectionOf(r))
	}
	switch {
	case err != nil:
		dated(r, e.stream.writeTimeout)
		// It was ended before it could begin, by an exit or a reload.
		e.hub.remove(l)
		return nil, e.turnAway(w, errReplaced)
	case detached:
		return nil, nil
	}
	return l, nil
}

// detach begins a stream by taking its connection from the server. Where that
// cannot be it does nothing, and reports false.
func (e *endpoint) detach(w http.ResponseWriter, r *http.Request, l *live) (bool, error) {
	conn := connectionOf(r)
	if conn == nil || e.stream.attached {
		return false, nil
	}
	l.logged = e.log.begin(r)
	detached, err := l.session.Detach(l.logged.over(w), r, conn)
	if !detached || err != nil {
		l.logged.leave(r)
		l.logged = nil
	}
	return detached, err
}

// ending is what the access log is told of a stream that has ended.
func (l *live) ending() []zap.Field {
	return []zap.Field{
		zap.String("evstream_reason", string(l.session.Reason())),
		zap.Uint64("evstream_events", l.session.Delivered()),
	}
}

// turnAway answers a subscriber that is over a limit. By default it is asked
// to come back, because any status but 200 ends an EventSource for good; what
// no patience helps against is an error all the same.
func (e *endpoint) turnAway(w http.ResponseWriter, err error) error {
	s := problemOf(err).status()
	patience := s == http.StatusServiceUnavailable || s == http.StatusTooManyRequests
	if !errors.Is(err, errExiting) && !errors.Is(err, errTooManyFromAddress) && !errors.Is(err, errTooManyOfUser) && !errors.Is(err, errReplaced) &&
		(patience || refusal(err) != "other") {
		e.hub.refused(err) // hub.add counts what it refuses itself
	}
	if !patience {
		return e.fail(w, err)
	}
	if e.overload == http.StatusServiceUnavailable {
		return e.fail(w, err)
	}
	stream.Refuse(w, e.stream.retryMin, e.stream.retryMax)
	return nil
}

// unread answers a subscriber that cannot be served. One of whom it cannot be
// told now who it is, because an application or keys do not answer, or other
// nodes were not heard, is asked to come back, like one that is over a limit.
func (e *endpoint) unread(w http.ResponseWriter, err error) error {
	if errors.Is(err, errNoKeys) || errors.Is(err, errApplication) || errors.Is(err, errBehind) {
		return e.turnAway(w, err)
	}
	return e.fail(w, err)
}

// clientAddress is the address of the client as Caddy tells it, or else of the
// connection.
func clientAddress(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
