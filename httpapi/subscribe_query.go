package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/duration"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of what a subscriber may ask for.
const (
	maxLastEventID = sse.MaxID
	maxTypes       = 100
	maxAs          = 255
)

// unknownCursor replaces a last event id that is too long. No event has it, because an
// id cannot contain NUL.
const unknownCursor = "\x00"

// reading is what a request asks to read, and who asks.
type reading struct {
	who     *access.Caller
	options broker.SubscribeOptions
}

// use is what a credential is used for.
type use bool

const (
	noStream  use = false
	newStream use = true // which a ticket may open
)

// reader returns who makes a request that reads. It refuses a request by a page of a
// foreign origin with ambient credentials, and one with a ticket.
func (h *Handler) reader(r *http.Request) (*access.Caller, error) {
	return h.readerFor(r, noStream)
}

// readerFor is reader for a request that may open a stream.
func (h *Handler) readerFor(r *http.Request, to use) (*access.Caller, error) {
	who, err := h.identifyFor(r, to)
	if err == nil {
		err = h.cors.CheckRead(r, who)
	}
	if err != nil {
		return nil, err
	}
	if to == noStream {
		if err := h.readRate(r, who); err != nil {
			return nil, err
		}
	}
	return h.cors.Vouch(r, who), nil
}

// readRate counts a read that is no stream against the rate of its caller.
func (h *Handler) readRate(r *http.Request, who *access.Caller) error {
	if auth.Previous(r) != nil { // a poll that is judged again after a reload
		return nil
	}
	return h.hub.MayRead(who, h.host.ClientIP(r))
}

// mayRead returns who makes a request, if they may read all of channels.
func (h *Handler) mayRead(r *http.Request, channels []string, to use) (*access.Caller, error) {
	who, err := h.readerFor(r, to)
	for i := 0; err == nil && i < len(channels); i++ {
		err = h.access.Require(who, access.Subscribe, channels[i])
	}
	return who, err
}

// reading parses a request, and refuses it if any of its channels is not allowed.
func (h *Handler) reading(r *http.Request, t resource, q query.Query, to use) (reading, error) {
	var rd reading
	var err error
	o := &rd.options
	if o.Channels, err = channelsOf(t, q); err != nil {
		return rd, err
	}
	if rd.who, err = h.mayRead(r, o.Channels, to); err != nil {
		return rd, err
	}
	if o.Start, err = startOf(r, q, time.Now()); err != nil {
		return rd, err
	}
	if o.Types, err = q.List("event"); err != nil {
		return rd, err
	}
	if len(o.Types) > maxTypes {
		return rd, problem.BadParameter.Because("there are %d event types, at most %d are allowed", len(o.Types), maxTypes)
	}
	if o.Envelope, err = q.Flag("envelope", false); err != nil {
		return rd, err
	}
	o.OneType, o.As, err = oneType(q)
	return rd, err
}

// oneType is the type that all events are to get, if the query asks for one: with
// named=0 none, so that an EventSource's onmessage gets them all.
func oneType(q query.Query) (asked bool, typ string, err error) {
	named, err := q.Flag("named", true)
	if err != nil {
		return false, "", err
	}
	typ, given, err := q.One("as")
	switch {
	case err != nil:
		return false, "", err
	case !given:
		return !named, "", nil
	case !named:
		return false, "", problem.BadParameter.Because("named=0 gives events no name, and as one: only one of both can be")
	case typ == "" || len(typ) > maxAs:
		return false, "", problem.BadParameter.Because("as is the name that all events get, of 1 to %d bytes; named=0 gives them none", maxAs)
	}
	if err := broker.CheckEvent(&sse.Event{Type: typ}); err != nil {
		return false, "", problem.BadParameter.Because("as=%s: %w", problem.Clip(typ), err)
	}
	return true, typ, nil
}

// channelsOf are the channels of the path and of the query, each once.
func channelsOf(t resource, q query.Query) ([]string, error) {
	channels, err := q.List("channel")
	if err != nil {
		return nil, err
	}
	if t.kind == resourceChannel {
		for i, channel := range channels {
			if channel == t.name {
				channels = append(channels[:i], channels[i+1:]...)
				break
			}
		}
		channels = append([]string{t.name}, channels...)
	}
	if len(channels) == 0 {
		return nil, problem.BadParameter.Because("no channel is named; name one in the path, or more with ?channel=")
	}
	return channels, nil
}

// startOf parses where to begin. An invalid cursor is not an error, because clients send
// it by themselves; an invalid since or last is one.
func startOf(r *http.Request, q query.Query, now time.Time) (start broker.Start, err error) {
	if start.LastEventID = trimHeader(r.Header.Get("Last-Event-ID")); start.LastEventID == "" {
		cursor, err := q.Cursor()
		if err != nil {
			return start, err
		}
		start.LastEventID = trimHeader(cursor)
	}
	if len(start.LastEventID) > maxLastEventID {
		start.LastEventID = unknownCursor
	}
	since, given, err := q.One("since")
	if err != nil {
		return start, err
	}
	if given {
		if start.Since, start.Earliest, err = parseSince(since, now); err != nil {
			return start, err
		}
	}
	last, given, err := q.One("last")
	if err != nil {
		return start, err
	}
	if given {
		if start.Last, err = strconv.Atoi(last); err != nil || start.Last < 0 {
			return start, problem.BadParameter.Because("last is how many events to begin with, such as 10, not %q", problem.Clip(last))
		}
	}
	return start, nil
}

// trimHeader trims a cursor as HTTP/1.1 does a header field's value, wherever it comes
// from: HTTP/2 trims nothing.
func trimHeader(s string) string { return strings.Trim(s, " \t") }

// parseSince reads earliest, a duration or a time.
func parseSince(s string, now time.Time) (since time.Time, earliest bool, err error) {
	if s == "earliest" {
		return time.Time{}, true, nil
	}
	if ago, err := duration.Parse(s); err == nil && ago > 0 {
		return now.Add(-ago), false, nil
	}
	// In a query a plus sign is a space.
	at, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	if err != nil {
		return time.Time{}, false, problem.BadParameter.Because(
			"since is earliest, a duration such as 30s, or a time such as 2026-01-31T12:00:00Z, not %q", problem.Clip(s))
	}
	if at.After(now) {
		return time.Time{}, false, nil // a client whose clock is ahead begins now
	}
	return at, false, nil
}
