package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/duration"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// How long a poll waits for an event, and how much one answer holds.
const (
	pollTimeout    = 25 * time.Second
	maxPollTimeout = 60 * time.Second
	maxPollEvents  = 1000
	maxPollBytes   = 1 << 20
	maxPollValues  = 8 << 20 // bytes of channels' values, which are not split over answers
	pollStep       = 16
)

// pollAnswer is the answer to a poll. The next poll sends LastEventID.
type pollAnswer struct {
	Events      []polledEvent `json:"events"`
	LastEventID string        `json:"last_event_id"`
	Gap         *polledGap    `json:"gap,omitempty"`
	Closed      []string      `json:"closed,omitempty"`   // those of the channels that are
	Complete    *bool         `json:"complete,omitempty"` // as in evstream.open
	Oldest      *broker.ID    `json:"oldest,omitempty"`

	end  bool // all of it is closed, and read
	news bool // something was closed after the client's cursor
}

type polledEvent struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	Event   string `json:"event"`
	Data    string `json:"data"`
}

type polledGap struct {
	Reason string     `json:"reason"`
	Oldest *broker.ID `json:"oldest"`
	Newest *broker.ID `json:"newest"`
}

// poll answers with the events after the client's cursor, and waits for some
// if there are none. Without a cursor it answers at once, so that the client
// has one.
func (h *Handler) poll(w http.ResponseWriter, r *http.Request, t resource, q query.Query) error {
	address := h.host.ClientIP(r)
	if err := h.hub.MayConnect(address); err != nil {
		return h.refusePoll(w, err)
	}
	rd, err := h.reading(r, t, q, noStream)
	if err != nil {
		if isUndecided(err) {
			return h.refusePoll(w, err)
		}
		return h.fail(w, err)
	}
	timeout, err := pollTimeoutOf(q)
	if err != nil {
		return h.fail(w, err)
	}
	if rd.options.Start.LastEventID == stream.EndID {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := bodies.Ignore(w, r); err != nil {
		return h.fail(w, err)
	}
	if err := h.hub.AddPoll(address, rd.who.User); err != nil {
		return h.refusePoll(w, err)
	}
	defer h.hub.RemovePoll(address, rd.who.User)
	if err := h.reach(r, rd.options.Start); err != nil {
		return h.refusePoll(w, err)
	}
	share := hub.ShareOf(rd.who, address)
	rd.options.Owner, rd.options.Looks = broker.OwnerOf(share), h.hub.LooksOf(share)
	rd.options.Audience = rd.who
	sub, err := h.hub.Broker().Subscribe(rd.options)
	if err != nil {
		return h.refusePoll(w, err)
	}
	defer sub.Close()
	if rd.options.Start.LastEventID == "" {
		timeout = 0
	}
	u := h.longRequest(w, r, 0)
	defer u.done()
	if !rd.who.Expires.IsZero() {
		timeout = max(0, min(timeout, time.Until(rd.who.Expires)))
	}
	answer, err := h.await(r, sub, rd, timeout)
	if err != nil {
		h.countRefusal(err)
		return u.fail(h, w, err)
	}
	defer u.answering()()
	h.markStale(w)
	return h.answer(w, answer)
}

// refusePoll answers a poll that is turned away, and counts it.
func (h *Handler) refusePoll(w http.ResponseWriter, err error) error {
	h.countRefusal(err)
	return h.fail(w, err)
}

func pollTimeoutOf(q query.Query) (time.Duration, error) {
	s, given, err := q.One("timeout")
	if err != nil || !given {
		return pollTimeout, err
	}
	timeout, err := duration.Parse(s)
	if seconds, notNumber := strconv.Atoi(s); notNumber == nil && seconds <= int(maxPollTimeout/time.Second) {
		timeout, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || timeout < 0 || timeout > maxPollTimeout {
		return 0, problem.BadParameter.Because("timeout is how long to wait, such as 25s, at most %s, not %q", maxPollTimeout, problem.Clip(s))
	}
	return timeout, nil
}

// await collects the answer, and waits for at most timeout while it is empty.
func (h *Handler) await(r *http.Request, sub *broker.Subscription, rd reading, timeout time.Duration) (*pollAnswer, error) {
	judge := func(next *Handler, r *http.Request) (*access.Caller, error) {
		return next.mayRead(r, rd.options.Channels, noStream)
	}
	next, who := h, rd.who
	answer := &pollAnswer{Events: []polledEvent{}}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for waiting := timeout > 0; ; {
		revoking := h.hub.RevocationsChanged()
		var err error
		if next, who, err = next.follow(r, who, judge); err != nil {
			return nil, err
		}
		if h.hub.IsRevoked(who, time.Now()) {
			return nil, access.ErrRevoked
		}
		if err := answer.collect(sub); err != nil {
			return nil, err
		}
		if !waiting || len(answer.Events) > 0 || answer.Gap != nil || answer.end || answer.news {
			break
		}
		select {
		case <-sub.Wake():
		case <-timer.C:
			waiting = false
		case <-r.Context().Done():
			waiting = false
		case <-h.hub.Exit():
			waiting = false
		case <-revoking:
		case <-next.replaced():
		}
	}
	answer.LastEventID = sub.Cursor().String()
	if answer.end {
		answer.LastEventID = stream.EndID
	}
	if replay := sub.Replay(); replay != nil {
		answer.Complete, answer.Oldest = &replay.Complete, orNull(replay.Oldest)
	}
	return answer, nil
}

// collect takes events until the answer is full or there are no more.
func (a *pollAnswer) collect(sub *broker.Subscription) error {
	batch := broker.Batch{Decode: true, Max: pollStep, More: true}
	for size := 0; batch.More && (sub.Telling() || len(a.Events) < maxPollEvents && size < maxPollBytes); {
		if size > maxPollValues {
			return problem.BadParameter.Because("the channels' values have more than %d bytes, which is what one poll may hold: name fewer channels, or read a stream", maxPollValues)
		}
		if err := sub.Read(&batch); err != nil {
			return err
		}
		if batch.Gap != nil {
			a.Gap = newPolledGap(batch.Gap)
		}
		for i := range batch.Deliveries {
			a.Events = append(a.Events, newPolledEvent(&batch.Deliveries[i]))
			size += len(batch.Deliveries[i].Event.Data)
		}
		for _, c := range batch.Closed {
			a.Closed = append(a.Closed, c.Channel)
			a.news = a.news || c.ID.After(sub.Start())
		}
		a.end = batch.End
	}
	return nil
}

// newPolledEvent has the id that a stream would send: the publisher's, or else the
// position.
func newPolledEvent(d *broker.Delivery) polledEvent {
	e := polledEvent{ID: d.Event.ID, Channel: d.Channel, Event: d.Event.Type, Data: string(d.Event.Data)}
	if e.ID == "" {
		e.ID = d.ID.String()
	}
	if e.Event == "" {
		e.Event = "message"
	}
	return e
}

func newPolledGap(g *broker.Gap) *polledGap {
	return &polledGap{Reason: g.Reason, Oldest: orNull(g.Oldest), Newest: orNull(g.Newest)}
}

// orNull makes the zero ID null in JSON.
func orNull(id broker.ID) *broker.ID {
	if id.IsZero() {
		return nil
	}
	return &id
}
