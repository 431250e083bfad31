package console

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/histogram"
	"github.com/evstream/caddy-evstream/problem"
)

// statsDoc are the numbers of the hub at a time. Totals are those since it was opened.
type statsDoc struct {
	Time   time.Time `json:"time"`
	Broker string    `json:"broker"`

	Streams  int `json:"streams"`
	Channels int `json:"channels"`
	Patterns int `json:"patterns"`
	Values   int `json:"values"`
	Members  int `json:"members"`
	Runs     int `json:"recording"`

	Published uint64 `json:"published_total"`
	Delivered uint64 `json:"delivered_total"`
	Gaps      uint64 `json:"gaps_total"`
	Writes    uint64 `json:"state_writes_total"`
	Refused   uint64 `json:"refused_total"` // subscribers and publishing

	History int    `json:"history_bytes"`
	Memory  uint64 `json:"memory_bytes"` // of the process

	Lag lagDoc `json:"lag"` // from a publish to the write to a stream, at samples

	Node  string    `json:"node,omitempty"`
	Nodes []string  `json:"nodes,omitempty"` // that share the log
	Known bool      `json:"nodes_known"`     // whether Nodes are all of them
	Up    bool      `json:"log_up"`
	Head  broker.ID `json:"head"`
	Log   *Log      `json:"log,omitempty"`

	Disconnects map[string]uint64 `json:"disconnects_total,omitempty"`
	Refusals    map[string]uint64 `json:"refusals_total,omitempty"`
}

func lagOf(c *histogram.Counts) (doc lagDoc) {
	for _, bound := range histogram.Bounds() {
		doc.Bounds = append(doc.Bounds, bound.Seconds())
	}
	doc.Counts = c.Buckets[:]
	return doc
}

func (c *Console) stats(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	s, b := c.hub.Stats(), c.hub.Broker()
	doc := &statsDoc{
		Time: time.Now(), Broker: c.hub.Name(),
		Streams: s.Streams, Channels: s.Broker.Channels, Patterns: s.Broker.Patterns, Values: s.Broker.States,
		Members: s.Presence.Members + s.Presence.Unnamed, Runs: s.Runs.Going,
		Published: s.Broker.Published, Delivered: s.Broker.Delivered, Gaps: s.Broker.Gaps, Writes: s.Broker.StateWrites,
		Lag:     lagOf(&s.Written.Lag),
		History: s.Broker.Bytes, Memory: memory(), Node: b.Node(), Up: s.Up, Head: b.Head(),
		Disconnects: make(map[string]uint64), Refusals: make(map[string]uint64),
	}
	if doc.Node != "" {
		doc.Nodes, doc.Known = b.Members()
	}
	for reason, n := range s.Disconnects {
		if n > 0 {
			doc.Disconnects[string(reason)] = n
		}
	}
	for _, refusals := range []map[string]uint64{s.Refusals, s.PublishRefusals} {
		for reason, n := range refusals {
			if doc.Refused += n; n > 0 {
				doc.Refusals[reason] += n
			}
		}
	}
	if c.config.Log != nil {
		log := c.config.Log()
		doc.Log = &log
	}
	return doc, nil
}

// lagDoc is a histogram: Counts has how many there are above the bound before and up to
// each of Bounds, in seconds, and last those above all.
type lagDoc struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts_total"`
}

// memory is what the process has from the system.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// channelDoc describes a channel.
type channelDoc struct {
	Channel     string     `json:"channel"`
	Subscribers int        `json:"subscribers"` // of this node
	Published   uint64     `json:"published"`   // since it is in this node's memory
	Events      int        `json:"events"`      // that its history keeps
	Bytes       int        `json:"bytes"`
	Newest      *broker.ID `json:"newest"`
	State       broker.ID  `json:"state,omitzero"`
	Closed      broker.ID  `json:"closed,omitzero"`
}

type listDoc struct {
	Time     time.Time    `json:"time"`
	Channels []channelDoc `json:"channels"`
	Next     string       `json:"next,omitempty"` // the "after" of the next page
}

// maxChannels bounds the channels of one page of a list.
const maxChannels = 200

func (c *Console) channels(r *http.Request) (any, error) {
	if err := onlyParameters(r, "prefix", "after", "limit"); err != nil {
		return nil, err
	}
	q, limit := r.URL.Query(), 50
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxChannels {
			return nil, problem.BadParameter.Because("limit is a number from 1 to %d", maxChannels)
		}
		limit = n
	}
	list, more := c.hub.Broker().Channels(q.Get("prefix"), q.Get("after"), limit)
	doc := &listDoc{Time: time.Now(), Channels: make([]channelDoc, 0, len(list))}
	for _, info := range list {
		channel := channelDoc{
			Channel: info.Name, Subscribers: info.Subscribers, Published: info.Appended,
			Events: info.Events, Bytes: info.Bytes, State: info.State, Closed: info.Closed,
		}
		if !info.Newest.IsZero() {
			channel.Newest = &info.Newest
		}
		doc.Channels = append(doc.Channels, channel)
	}
	if more {
		doc.Next = list[len(list)-1].Name
	}
	return doc, nil
}

// explanation is a decision of the rules.
type explanation struct {
	Allowed bool   `json:"allowed"`
	By      string `json:"by,omitempty"`
	Text    string `json:"text"` // what each rule has to do with it
}

// explain answers for the caller that the query describes, or for nobody in particular.
func (c *Console) explain(r *http.Request) (any, error) {
	if err := onlyParameters(r, "do", "channel", "user", "bearer", "claims"); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	do, channel := q.Get("do"), q.Get("channel")
	if do == access.Everything || !slices.Contains(access.Verbs(), do) {
		return nil, problem.BadParameter.Because("do is one of %s", strings.Join(access.Verbs()[:len(access.Verbs())-1], ", "))
	}
	if channel == "" {
		return nil, problem.BadParameter.Because("channel is required: a name, a pattern to subscribe to, or a name that ends in / to publish to")
	}
	who := &access.Caller{Name: q.Get("bearer"), User: q.Get("user"), Matched: map[string]bool{}}
	if who.Name != "" && (who.User != "" || q.Get("claims") != "") {
		return nil, problem.BadParameter.Because("a bearer has neither a user nor claims")
	}
	if text := q.Get("claims"); text != "" {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&who.Claims); err != nil || who.Claims == nil || d.More() {
			return nil, problem.BadParameter.Because(`claims is an object of JSON, such as {"role":"admin"}`)
		}
		if claim, ok := who.Claims[access.GrantsClaim]; ok {
			grants, err := access.ReadGrants(claim)
			if err != nil {
				return nil, problem.BadParameter.Because("%s", err)
			}
			who.Grants = grants
		}
	}
	x := c.api.Explain(who, do, channel)
	return &explanation{Allowed: x.Decision.Allowed, By: x.Decision.By, Text: x.String()}, nil
}

// onlyParameters returns an error about a parameter that has no meaning, or is given twice.
func onlyParameters(r *http.Request, known ...string) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.BadParameter.Because("the query cannot be read: %s", err)
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		switch {
		case !slices.Contains(known, name) && !strings.HasPrefix(name, "_"):
			return problem.BadParameter.Because("there is no parameter %q here; there is: %s", problem.Clip(name), strings.Join(known, ", "))
		case len(q[name]) > 1:
			return problem.BadParameter.Because("%q is given twice", problem.Clip(name))
		}
	}
	return nil
}
