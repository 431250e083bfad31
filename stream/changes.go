package stream

import (
	"encoding/json"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// changeData is the data of the events evstream.joined and evstream.left.
type changeData struct {
	Channel     string   `json:"channel"`
	Channels    []string `json:"channels"`         // all that the session reads now
	LastEventID string   `json:"last_event_id"`    // "" if the client has no cursor yet
	Values      []string `json:"values,omitempty"` // Channel, if it has one

	Complete *bool      `json:"complete,omitempty"` // of the history that was asked for
	Oldest   *broker.ID `json:"oldest,omitempty"`   // of what is kept, if that is not complete
}

// appendChanges tells the client what its session joined and left. Once the client has a
// cursor, it is sent the newest with it.
func (s *Session) appendChanges(dst []byte, changes []broker.Change) []byte {
	channels := s.Channels()
	for i := range changes {
		c := &changes[i]
		data := changeData{Channel: c.Channel, Channels: channels}
		event := sse.Event{Type: "evstream.joined"}
		if c.Left {
			event.Type = "evstream.left"
		}
		// Without one, a client that is cut begins where this session did.
		if !s.state.sent.IsZero() {
			data.LastEventID = c.Cursor.String()
			if c.Cursor.After(s.state.sent) {
				event.ID, s.state.sent = data.LastEventID, c.Cursor
			}
		}
		if c.Valued {
			data.Values = []string{c.Channel}
		}
		if c.Replay != nil {
			data.Complete = &c.Replay.Complete
			if !c.Replay.Oldest.IsZero() {
				data.Oldest = &c.Replay.Oldest
			}
		}
		event.Data, _ = json.Marshal(data)
		dst = sse.AppendEvent(dst, &event)
	}
	return dst
}
