package evstream

import (
	"net/http"
	"strconv"

	"github.com/evstream/caddy-evstream/broker"
)

// How many channels a list holds.
const (
	listLimit    = 100
	maxListLimit = 1000
)

// channelDoc describes a channel.
type channelDoc struct {
	Channel     string     `json:"channel"`
	Subscribers int        `json:"subscribers"`
	History     historyDoc `json:"history"`
	State       broker.ID  `json:"state,omitzero"` // the version of its value
}

type historyDoc struct {
	Events int        `json:"events"`
	Bytes  int        `json:"bytes"`
	Oldest *broker.ID `json:"oldest"`
	Newest *broker.ID `json:"newest"`
}

// infoDoc is a channel's document, and a cursor to go on from.
type infoDoc struct {
	channelDoc
	LastEventID broker.ID `json:"last_event_id"`
}

// listDoc is a page of channels. Next, if there is more, is the "after" of the
// next page.
type listDoc struct {
	Channels []channelDoc `json:"channels"`
	Next     string       `json:"next,omitempty"`
}

func newChannelDoc(c *broker.ChannelInfo) channelDoc {
	return channelDoc{
		Channel:     c.Name,
		Subscribers: c.Subscribers,
		History:     historyDoc{Events: c.Events, Bytes: c.Bytes, Oldest: orNull(c.Oldest), Newest: orNull(c.Newest)},
		State:       c.State,
	}
}

// info answers with the document of one channel.
func (e *endpoint) info(w http.ResponseWriter, r *http.Request, t target) error {
	if t.kind != targetChannel {
		return e.fail(w, badQuery.because("info is about one channel, named in the path; _channels lists them"))
	}
	who, err := e.reader(r)
	if err != nil {
		return e.fail(w, err)
	}
	if err := e.access.require(who, doSubscribe, t.name); err != nil {
		return e.fail(w, err)
	}
	if err := broker.CheckName(t.name); err != nil {
		return e.fail(w, err)
	}
	// The cursor first: what is published between the two is read again
	// rather than missed.
	doc := infoDoc{LastEventID: e.hub.broker.Head()}
	channel, ok := e.hub.broker.Channel(t.name)
	if !ok {
		return e.fail(w, notFound.because("channel %q has neither history nor subscribers nor a value", t.name))
	}
	doc.channelDoc = newChannelDoc(&channel)
	return e.answer(w, doc)
}

// listChannels answers with a page of the channels that the caller may read.
func (e *endpoint) listChannels(w http.ResponseWriter, r *http.Request, q query) error {
	who, err := e.reader(r)
	if err != nil {
		return e.fail(w, err)
	}
	if !e.access.somewhere(who, doSubscribe) {
		return e.fail(w, e.access.refuse(who, doSubscribe, "any channel"))
	}
	prefix, _, err := q.one("prefix")
	if err != nil {
		return e.fail(w, err)
	}
	after, _, err := q.one("after")
	if err != nil {
		return e.fail(w, err)
	}
	limit, err := listLimitOf(q)
	if err != nil {
		return e.fail(w, err)
	}
	return e.answer(w, e.page(who, prefix, after, limit))
}

func listLimitOf(q query) (int, error) {
	s, given, err := q.one("limit")
	if err != nil || !given {
		return listLimit, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxListLimit {
		return 0, badQuery.because("limit is how many channels to list, from 1 to %d, not %q", maxListLimit, clip(s))
	}
	return n, nil
}

// page collects channels until there are limit of them. Next is always a
// channel that is listed: one that is not allowed is not named.
func (e *endpoint) page(who caller, prefix, after string, limit int) *listDoc {
	doc := &listDoc{Channels: []channelDoc{}}
	more := true
	// Larger steps, because where few channels are allowed there are many to
	// look through, and each look is a search of its own.
	for step := limit + 1; more; step *= 8 {
		var list []broker.ChannelInfo
		list, more = e.hub.broker.Channels(prefix, after, step)
		for i := range list {
			after = list[i].Name
			if !e.access.decide(who, doSubscribe, after).allowed {
				continue
			}
			if len(doc.Channels) == limit {
				doc.Next = doc.Channels[limit-1].Channel
				return doc
			}
			doc.Channels = append(doc.Channels, newChannelDoc(&list[i]))
		}
	}
	return doc
}
