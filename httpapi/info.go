package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
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
	State       broker.ID  `json:"state,omitzero"`  // the version of its value
	Closed      broker.ID  `json:"closed,omitzero"` // what closed it
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
	sharedDoc
}

// sharedDoc says which nodes a document takes in. Without a shared log it is empty.
type sharedDoc struct {
	Nodes   int  `json:"nodes,omitempty"`   // that share the log, where it is known
	Partial bool `json:"partial,omitempty"` // not those of all nodes may be counted
	Stale   int  `json:"stale,omitempty"`   // seconds that the log has been out of reach
}

// listDoc is a page of channels. Next, if there is more, is the "after" of the
// next page.
type listDoc struct {
	Channels []channelDoc `json:"channels"`
	Next     string       `json:"next,omitempty"`
	sharedDoc
}

func newChannelDoc(c *broker.ChannelInfo) channelDoc {
	return channelDoc{
		Channel:     c.Name,
		Subscribers: c.Subscribers,
		History:     historyDoc{Events: c.Events, Bytes: c.Bytes, Oldest: orNull(c.Oldest), Newest: orNull(c.Newest)},
		State:       c.State,
		Closed:      c.Closed,
	}
}

// info answers with the document of one channel.
func (h *Handler) info(w http.ResponseWriter, r *http.Request, t resource) error {
	if t.kind != resourceChannel {
		return h.fail(w, problem.BadParameter.Because("info is about one channel, named in the path; _channels lists them"))
	}
	who, err := h.reader(r)
	if err != nil {
		return h.fail(w, err)
	}
	if err := h.access.Require(who, access.Subscribe, t.name); err != nil {
		return h.fail(w, err)
	}
	if err := channel.Check(t.name); err != nil {
		return h.fail(w, err)
	}
	if err := h.whole(w, r); err != nil {
		return h.fail(w, err)
	}
	// The cursor first: who resumes from it reads an event again that is published
	// in between, rather than missing it.
	doc := infoDoc{LastEventID: h.hub.Broker().Head()}
	channel, ok := h.hub.Broker().Channel(t.name)
	docs := []channelDoc{newChannelDoc(&channel)}
	doc.sharedDoc = h.share(r.Context(), docs)
	if doc.channelDoc = docs[0]; !ok && doc.Subscribers == 0 {
		return h.fail(w, problem.NotFound.Because("channel %q has neither history nor subscribers nor a value, and is not closed", t.name))
	}
	return h.answer(w, doc)
}

// share adds the subscribers at other nodes to docs.
func (h *Handler) share(ctx context.Context, docs []channelDoc) (shared sharedDoc) {
	b := h.hub.Broker()
	if b.Node() == "" {
		return shared
	}
	shared.Stale = staleFor(b)
	members, known := b.Members()
	shared.Nodes, shared.Partial = len(members), !known
	if len(docs) == 0 {
		return shared
	}
	names := make([]string, len(docs))
	for i := range docs {
		names[i] = docs[i].Channel
	}
	var readers []int
	err := withLogTimeout(ctx, func(ctx context.Context) (err error) {
		readers, err = b.Readers(ctx, names)
		return err
	})
	if err != nil {
		shared.Partial = true
		return shared
	}
	for i := range docs {
		docs[i].Subscribers += readers[i]
	}
	return shared
}

// listChannels answers with a page of the channels that the caller may read.
func (h *Handler) listChannels(w http.ResponseWriter, r *http.Request, q query.Query) error {
	who, err := h.reader(r)
	if err != nil {
		return h.fail(w, err)
	}
	if !h.access.Somewhere(who, access.Subscribe) {
		return h.fail(w, h.access.Refuse(who, access.Subscribe, "any channel"))
	}
	prefix, _, err := q.One("prefix")
	if err != nil {
		return h.fail(w, err)
	}
	after, limit, err := pageOf(q)
	if err != nil {
		return h.fail(w, err)
	}
	if err := h.whole(w, r); err != nil {
		return h.fail(w, err)
	}
	list, more, err := h.hub.List(hub.Listing{
		Prefix: prefix, After: after, Limit: limit, Share: hub.ShareOf(who, h.host.ClientIP(r)),
		Spans: h.access.Spans(who, access.Subscribe),
		May:   func(name string) bool { return h.access.Decide(who, access.Subscribe, name).Allowed },
	})
	if err != nil {
		return h.fail(w, err)
	}
	doc := &listDoc{Channels: make([]channelDoc, len(list))}
	for i := range list {
		doc.Channels[i] = newChannelDoc(&list[i])
	}
	if more { // the last of them, not the one after it: the caller may not know of that
		doc.Next = list[len(list)-1].Name
	}
	doc.sharedDoc = h.share(r.Context(), doc.Channels)
	return h.answer(w, doc)
}

// pageOf says after which name a page of a list begins, and how long it is.
func pageOf(q query.Query) (after string, limit int, err error) {
	if after, _, err = q.One("after"); err != nil {
		return "", 0, err
	}
	limit, err = listLimitOf(q)
	return after, limit, err
}

func listLimitOf(q query.Query) (int, error) {
	s, given, err := q.One("limit")
	if err != nil || !given {
		return listLimit, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxListLimit {
		return 0, problem.BadParameter.Because("limit is how many to list, from 1 to %d, not %q", maxListLimit, problem.Clip(s))
	}
	return n, nil
}
