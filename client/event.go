package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// EventKind is what an Event is.
type EventKind uint8

// The kinds. All but the first three come only if SubscribeOptions asks for them.
const (
	// KindEvent is a published event.
	KindEvent EventKind = iota
	// KindValue is a channel's value: what it is now.
	KindValue
	// KindDirect is an event to this session alone. It has no channel.
	KindDirect

	// KindPresence says who is in a channel: SubscribeOptions.Presence.
	KindPresence

	// The rest are notices: SubscribeOptions.Notices.

	// KindOpen is a connection that has begun.
	KindOpen
	// KindRetry is a connection that was lost, or has failed.
	KindRetry
	// KindClosed is a channel that is closed and was read to its end, while the
	// subscription has others.
	KindClosed
	// KindJoined and KindLeft are a channel that the session reads from here on, and one
	// that it reads no more.
	KindJoined
	KindLeft
)

// Event is one thing that a Subscription got. The caller owns it.
type Event struct {
	Kind    EventKind
	Channel string // where it was published; of a value, whose it is
	Type    string // its name, "" for none
	ID      string // its id, "" for none
	Data    []byte // of KindEvent and KindDirect

	Value json.RawMessage // of KindValue: nil if it was removed

	Presence *PresenceChange // of KindPresence
	Open     *Open           // of KindOpen

	Err  error         // of KindRetry: why the connection is lost; io.EOF if the hub has ended it
	Wait time.Duration // of KindRetry: when it is tried again
}

// Open is what a stream begins with.
type Open struct {
	Session     string   `json:"session"`
	Channels    []string `json:"channels"`
	LastEventID string   `json:"last_event_id"`
	Values      []string `json:"values"`  // those of Channels that have a value
	Ignored     []string `json:"ignored"` // parameters of the mount's URL that mean nothing
	// Complete says whether Since and Last have all that was asked for; nil if nothing
	// was. Oldest is the oldest event kept, if not.
	Complete *bool  `json:"complete"`
	Oldest   string `json:"oldest"`
	// HTTP is "1.0" if the request came to the hub over that, such as by a proxy: then a
	// crash cannot be told from the end of a stream. Else it is "".
	HTTP string `json:"http"`
}

// GapError says that events of a subscription are lost. It is not the end:
// [Subscription.Next] goes on with the oldest event that is kept, and values are told
// again. What a program has made of events and values before is out of date.
type GapError struct {
	Reason string // "trimmed", "restarted", "unknown" or "diverged": see docs/http.md
	Oldest string // of what is kept; "" for nothing
	Newest string
}

func (e *GapError) Error() string {
	why := map[string]string{
		"trimmed":   "the history no longer reaches back to the last one seen",
		"restarted": "the hub has begun a new history",
		"unknown":   "the hub does not know the last one seen",
		"diverged":  "the log of the hub does not have the last one seen",
	}[e.Reason]
	if why == "" {
		why = e.Reason
	}
	return "events were lost: " + why
}

// ProtocolError says that a stream is not as a hub makes it.
type ProtocolError struct{ Detail string }

func (e *ProtocolError) Error() string { return "not the stream of an evstream hub: " + e.Detail }

// endID is the id of the event that ends a stream for good.
const endID = "evstream.end"

// frame is what one event of a stream is.
type frame struct {
	event Event
	gap   *GapError
	patch json.RawMessage // of KindValue: to be applied to the value before

	skip, end, expiring bool
	reason              string // of an end
}

// parseFrame reads an event of a stream whose events are in envelopes. It takes any
// event, and reports what cannot be the hub's.
func parseFrame(e *sse.Event) (frame, error) {
	f := frame{event: Event{Type: e.Type, ID: e.ID}}
	var err error
	switch {
	case e.Type == "end" && e.ID == endID:
		f.end = true
		var doc struct {
			Reason string `json:"reason"`
		}
		err = decodeHub(e, &doc)
		f.reason = doc.Reason
	case e.Type == "evstream.open":
		f.event.Kind, f.event.Open = KindOpen, new(Open)
		err = decodeHub(e, f.event.Open)
	case e.Type == "evstream.gap":
		var doc struct{ Reason, Oldest, Newest string }
		err = decodeHub(e, &doc)
		f.gap = &GapError{doc.Reason, doc.Oldest, doc.Newest}
	case e.Type == "evstream.presence":
		f.event.Kind, f.event.Presence = KindPresence, new(PresenceChange)
		err = decodeHub(e, f.event.Presence)
		f.event.Channel = f.event.Presence.Channel
	case e.Type == "evstream.closed", e.Type == "evstream.joined", e.Type == "evstream.left":
		f.event.Kind = map[string]EventKind{"closed": KindClosed, "joined": KindJoined, "left": KindLeft}[strings.TrimPrefix(e.Type, "evstream.")]
		var doc struct{ Channel string }
		err = decodeHub(e, &doc)
		f.event.Channel = doc.Channel
	case e.Type == "evstream.expiring":
		f.expiring = true
	case strings.HasPrefix(e.Type, "evstream."): // evstream.at, and what a newer hub has
		f.skip = true
	default:
		f.published(e)
	}
	return f, err
}

// decodeHub decodes the data of an event of the hub's own.
func decodeHub(e *sse.Event, doc any) error {
	if err := json.Unmarshal(e.Data, doc); err != nil {
		return &ProtocolError{fmt.Sprintf("the data of %s: %s", e.Type, err)}
	}
	return nil
}

// published reads an event in its envelope, or one to this session alone, which is in
// none.
func (f *frame) published(e *sse.Event) {
	var envelope struct {
		Channel *string `json:"ch"`
		Event   *string `json:"event"`
		Data    *string `json:"data"`
	}
	enclosed := json.Unmarshal(e.Data, &envelope) == nil && envelope.Channel != nil && envelope.Event != nil && envelope.Data != nil &&
		(*envelope.Event == e.Type || *envelope.Event == "message" && e.Type == "")
	if !enclosed {
		f.event.Kind, f.event.Data = KindDirect, e.Data
		f.skip = e.Type == "heartbeat" && e.ID == "" && string(e.Data) == "{}" // the option heartbeat of a handler
		return
	}
	f.event.Channel, f.event.Data = *envelope.Channel, []byte(*envelope.Data)
	if e.Type == f.event.Channel {
		f.value()
	}
}

// value reads the data of a value, if it is one: an event can have the name of its
// channel, too.
func (f *frame) value() {
	var members map[string]json.RawMessage
	if json.Unmarshal(f.event.Data, &members) != nil || len(members) != 1 {
		return
	}
	for name, value := range members {
		switch {
		case name == "deleted" && string(value) == "true":
		case name == "deleted":
			return
		case name == "patch":
			f.patch = value
		default:
			f.event.Value = value
		}
	}
	f.event.Kind = KindValue
}

// applyPatch applies a merge patch or a JSON patch, which is an array.
func applyPatch(value, patch json.RawMessage) (json.RawMessage, error) {
	if value == nil {
		return nil, errors.New("there is no value that it could apply to")
	}
	doc, err := jsonvalue.Parse(value)
	if err != nil {
		return nil, err
	}
	if patch[0] == '[' {
		parsed, err := jsonvalue.ParsePatch(patch)
		if err != nil {
			return nil, err
		}
		if doc, err = parsed.Apply(doc); err != nil {
			return nil, err
		}
		return doc.Append(nil), nil
	}
	merge, err := jsonvalue.Parse(patch)
	if err != nil {
		return nil, err
	}
	return jsonvalue.Merge(doc, merge).Append(nil), nil
}
