package hooks

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// The names of events.
const (
	Connected     = "connected"
	Disconnected  = "disconnected"
	ChannelActive = "channel_active"
	ChannelIdle   = "channel_idle"
	MemberJoined  = "member_joined"
	MemberLeft    = "member_left"
	StateChanged  = "state_changed"
)

// Events returns the names of all events.
func Events() []string {
	return []string{Connected, Disconnected, ChannelActive, ChannelIdle, MemberJoined, MemberLeft, StateChanged}
}

// ofChannels reports whether an event is about a channel or its value.
func ofChannels(name string) bool {
	return name == ChannelActive || name == ChannelIdle || name == StateChanged
}

// ofMembers reports whether an event is about a member of a channel.
func ofMembers(name string) bool { return name == MemberJoined || name == MemberLeft }

// TypePrefix begins the types of events outside of this package.
const TypePrefix = "evstream."

// maxPayload bounds a payload. The standard recommends less than 20 kB.
const maxPayload = 20_000

// Event is something that has happened, as one or several receivers get it. Its exported
// fields are not modified.
type Event struct {
	// ID is the same for all attempts and receivers.
	ID   string
	Name string // one of Events
	At   time.Time
	Data Data

	lane     string    // events of a lane are sent in order: of a session, or of a channel
	channels []string  // that patterns are compared with
	version  broker.ID // of a value: orders the events of its lane
	size     int       // about, of the payload

	once    sync.Once
	payload []byte
}

// Data is what an event says.
type Data struct {
	Broker string `json:"broker"`

	// Of connected and disconnected.
	Session         string     `json:"session,omitempty"`
	User            string     `json:"user,omitempty"`
	UserOmitted     bool       `json:"user_omitted,omitempty"` // too long
	Address         string     `json:"address,omitempty"`
	Channels        []string   `json:"channels,omitempty"`
	ChannelsOmitted int        `json:"channels_omitted,omitempty"` // that had no room in the payload
	Since           *time.Time `json:"since,omitempty"`

	// Of disconnected.
	Reason    string  `json:"reason,omitempty"`
	Delivered *uint64 `json:"delivered,omitempty"`

	// Of channel_active, channel_idle, member_joined, member_left (both with User) and
	// state_changed.
	Channel string `json:"channel,omitempty"`

	// Of state_changed. Value is null where the value was removed, and left out with
	// ValueOmitted.
	Version      string          `json:"version,omitempty"`
	Value        json.RawMessage `json:"value,omitempty"`
	ValueOmitted bool            `json:"value_omitted,omitempty"` // too large
}

// sessionEvent is an event about a session.
func sessionEvent(broker, name string, s *hub.SessionEvent) *Event {
	since := s.Since.UTC()
	e := &Event{
		Name: name, At: time.Now(), lane: "session " + s.Session, channels: s.Channels,
		Data: Data{Broker: broker, Session: s.Session, User: s.User, Address: s.Address, Channels: s.Channels, Since: &since, Reason: string(s.Reason)},
		size: 300 + len(s.User),
	}
	if name == Disconnected {
		e.Data.Delivered = &s.Delivered
	}
	for _, c := range s.Channels {
		e.size += len(c) + 3
	}
	return e
}

// channelEvent is an event about a channel.
func channelEvent(broker, name, of string) *Event {
	return &Event{
		Name: name, At: time.Now(), lane: "channel " + of, channels: []string{of},
		Data: Data{Broker: broker, Channel: of}, size: 200 + len(of),
	}
}

// memberEvent is an event about a member of a channel.
func memberEvent(broker, name, of, user string) *Event {
	e := channelEvent(broker, name, of)
	e.Data.User = user
	e.size += len(user)
	return e
}

// stateEvent is an event about a value.
func stateEvent(broker string, c *broker.StateChange) *Event {
	e := channelEvent(broker, StateChanged, c.Channel)
	e.Data.Version, e.version = c.ID.String(), c.ID
	switch {
	case c.Value == nil:
		e.Data.Value = json.RawMessage("null")
	case len(c.Value) > maxPayload:
		e.Data.ValueOmitted = true
	default:
		e.Data.Value = c.Value
		e.size += len(c.Value)
	}
	return e
}

// Payload is the JSON text that a URL gets. It must not be modified.
//
// It is encoded when it is first sent, and not while a stream
// waits. What has no room in it is left out, and that is said.
func (e *Event) Payload() []byte {
	e.once.Do(func() {
		d := e.Data
		e.payload = e.encode(&d)
		for len(e.payload) > maxPayload && len(d.Channels) > 0 {
			d.ChannelsOmitted += (len(d.Channels) + 1) / 2
			d.Channels = d.Channels[:len(d.Channels)/2]
			e.payload = e.encode(&d)
		}
		if len(e.payload) > maxPayload {
			d.UserOmitted, d.User = d.User != "", ""
			d.ValueOmitted, d.Value = d.Value != nil, nil
			e.payload = e.encode(&d)
		}
	})
	return e.payload
}

func (e *Event) encode(d *Data) []byte {
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	_ = to.Encode(struct { // all of it can be encoded: a value is JSON text
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      *Data     `json:"data"`
	}{TypePrefix + e.Name, e.At.UTC(), d})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// newID makes the id of an event: without a ".", because the parts of what is signed are
// separated by one.
func newID() string { return "msg_" + rand.Text() }
