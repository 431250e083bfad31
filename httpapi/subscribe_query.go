package httpapi

import (
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/starts"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of what a subscriber may ask for.
const (
	maxTypes = 100
	maxAs    = 255
)

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
	if o.Start, err = starts.Of(r, q, time.Now()); err != nil {
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
