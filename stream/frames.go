package stream

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// The frames that a stream writes besides events of channels. No block is without
// data: some clients take one for an event. So a comment and a reconnect delay have
// no blank line, and belong to the block that follows, if there is one. Some clients
// pass every event to one handler, which may parse its data: that of the hub's own
// events is JSON.

// openData is the data of the event evstream.open.
type openData struct {
	Session     string   `json:"session"`
	Channels    []string `json:"channels"`
	LastEventID string   `json:"last_event_id"`
	Values      []string `json:"values"`            // those of Channels that have one
	Ignored     []string `json:"ignored,omitempty"` // Options.Ignored

	Complete *bool      `json:"complete,omitempty"` // of the history that was asked for
	Oldest   *broker.ID `json:"oldest,omitempty"`   // of what is kept, if that is not complete

	HTTP string `json:"http,omitempty"` // "1.0" if that is the request's, else ""
}

// opening returns the data of evstream.open.
func (s *Session) opening(cursor string) []byte {
	open := openData{
		Session: s.ID(), Channels: s.Channels(), LastEventID: cursor, Values: s.sub.Valued(), Ignored: s.ignored,
	}
	if s.state.http10 {
		open.HTTP = "1.0"
	}
	if open.Values == nil {
		open.Values = []string{} // in JSON: none, and not null
	}
	if replay := s.sub.Replay(); replay != nil {
		open.Complete = &replay.Complete
		if !replay.Oldest.IsZero() {
			open.Oldest = &replay.Oldest
		}
	}
	data, _ := json.Marshal(open)
	return data
}

// openingFrames returns what a stream begins with.
func (s *Session) openingFrames() []byte {
	if len(s.prologue) > 0 {
		return s.prologue
	}
	greeting := "evstream"
	if s.behavior.padding {
		greeting += strings.Repeat(" ", 2<<10)
	}
	// Enough memory for all of it, unless the names are long.
	frame := sse.AppendComment(make([]byte, 0, len(greeting)+250), greeting)
	if s.behavior.raw {
		return frame
	}
	start := s.sub.Start()
	if s.behavior.noOpen {
		return appendRetry(frame, s.retry())
	}
	// Before the values and the announcement of a gap have been sent, the client
	// must not get a cursor: if the connection broke, it would resume after them.
	if s.sub.Opening() || s.sub.Strange() {
		return sse.AppendEvent(frame, &sse.Event{Type: "evstream.open", Retry: s.retry(), Data: s.opening("")})
	}
	s.state.sent = start
	return sse.AppendEvent(frame, &sse.Event{
		ID: start.String(), Type: "evstream.open", Retry: s.retry(), Data: s.opening(start.String()),
	})
}

// appendStartCursor sends the client the cursor at which the stream began.
func (s *Session) appendStartCursor(dst []byte) []byte {
	s.state.sent = s.sub.Start()
	if s.behavior.raw {
		return dst
	}
	return appendAt(dst, s.state.sent, 0)
}

// retry returns a random reconnect delay for the client, in milliseconds.
func (s *Session) retry() int64 {
	return jitter(s.behavior.retryMin, s.behavior.retryMax).Milliseconds()
}

// heartbeatFrame returns what keeps a quiet connection alive. If the cursor has
// moved past events that were filtered out, it sends the new cursor.
func (s *Session) heartbeatFrame() []byte {
	var frame []byte
	if cursor := s.sub.Cursor(); cursor.After(s.state.sent) && !s.behavior.raw {
		frame = appendAt(frame, cursor, 0)
		s.state.sent = cursor
	}
	if s.rewriter != nil {
		if _, data, _ := s.rewriter.Heartbeat(); len(data) > 0 {
			return append(frame, data...)
		}
	}
	switch {
	case s.behavior.heartbeatEvent:
		frame = sse.AppendEvent(frame, &sse.Event{Type: "heartbeat", Data: noData})
	case frame == nil:
		frame = append(frame, ":\n"...)
	}
	return frame
}

// closingFrames appends what a stream ends with: an event "end", or the reconnect
// delay, with the newest cursor if the client does not have it.
func (s *Session) closingFrames(dst []byte, reason Reason) []byte {
	s.state.own().endedFor = reason
	if s.behavior.raw {
		return append(dst, ":\n"...) // there must be a byte, see chunk.set
	}
	if reason == ReasonEnded {
		return sse.AppendEvent(dst, &sse.Event{ID: EndID, Type: "end", Data: s.endData()})
	}
	if cursor := s.sub.Cursor(); cursor.After(s.state.sent) && !s.sub.Opening() && s.sub.Gap() == nil {
		return appendAt(dst, cursor, s.retry())
	}
	return appendRetry(dst, s.retry())
}

// endData is the data of the event "end".
func (s *Session) endData() []byte {
	s.mu.Lock()
	text := ""
	if s.requests != nil {
		text = s.requests.endText
	}
	s.mu.Unlock()
	if text == "" {
		return noData
	}
	data, _ := json.Marshal(map[string]string{"reason": text})
	return data
}

// appendAt appends an event that gives the client a cursor.
func appendAt(dst []byte, cursor broker.ID, retry int64) []byte {
	return sse.AppendEvent(dst, &sse.Event{ID: cursor.String(), Type: "evstream.at", Retry: retry, Data: noData})
}

// noData is the data of an event whose type and id say all.
var noData = []byte("{}")

// appendRetry appends a reconnect delay without an event.
func appendRetry(dst []byte, retry int64) []byte {
	dst = append(dst, "retry: "...)
	return append(strconv.AppendInt(dst, retry, 10), '\n')
}

// appendExpiring appends an event that says when the credential expires, given as
// Unix time.
func appendExpiring(dst []byte, at int64) []byte {
	data, _ := json.Marshal(struct {
		Expires time.Time `json:"expires"`
	}{time.Unix(at, 0).UTC()})
	return sse.AppendEvent(dst, &sse.Event{Type: "evstream.expiring", Data: data})
}

// appendClosed appends an event that says that a channel is closed.
func appendClosed(dst []byte, channel string) []byte {
	data, _ := json.Marshal(struct {
		Channel string `json:"channel"`
	}{channel})
	return sse.AppendEvent(dst, &sse.Event{Type: "evstream.closed", Data: data})
}

// gapData is the data of the event evstream.gap.
type gapData struct {
	Reason string     `json:"reason"`
	Oldest *broker.ID `json:"oldest"`
	Newest *broker.ID `json:"newest"`
}

// appendGap appends the announcement of a gap. If the client is cursorless it
// gets start as its cursor.
func appendGap(dst []byte, g *broker.Gap, start broker.ID, cursorless bool) []byte {
	announced := gapData{Reason: g.Reason}
	if !g.Oldest.IsZero() {
		announced.Oldest, announced.Newest = &g.Oldest, &g.Newest
	}
	event := sse.Event{Type: "evstream.gap"}
	event.Data, _ = json.Marshal(announced)
	if cursorless {
		event.ID = start.String()
	}
	return sse.AppendEvent(dst, &event)
}
