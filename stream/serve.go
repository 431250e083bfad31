package stream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// Serve writes the stream to w until it ends, and returns then. It is called
// once, and is the only one that writes: w needs no lock. The error is not nil
// only if nothing was written.
//
// The stream begins with a comment and an event "evstream.open", so that every
// client holds a cursor from the start. Where values come first, it gets that
// once it has them. Quiet times are filled with heartbeats.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := s.claim(); err != nil {
		return err
	}
	c := newConn(w, s.o.WriteTimeout)
	reason := s.run(r.Context(), c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = reason
	s.finish()
	return nil
}

func (s *Session) run(ctx context.Context, c *conn) Reason {
	c.begin()
	if reason := s.open(c); reason != "" {
		return reason
	}
	t := newTimes(&s.o)
	defer t.timer.Stop()
	for {
		if reason := s.writeNew(ctx, c, t); reason != "" {
			if reason == ReasonClosed {
				s.bye(c, reason)
			}
			return reason
		}
		at, reason := s.planned(t)
		if due(at) {
			s.bye(c, reason)
			return reason
		}
		t.arm(c.wrote, at)
		select {
		case <-ctx.Done():
			return ReasonClient
		case <-s.sub.Wake():
		case <-s.control:
		case <-t.timer.C:
			if due(t.warnAt) {
				t.warnAt = time.Time{}
				if reason := c.write(appendExpiring(nil, t.endAt)); reason != "" {
					return reason
				}
			}
			if t.quiet(c.wrote) {
				if reason := s.heartbeat(c); reason != "" {
					return reason
				}
			}
		}
	}
}

// times are the moments at which a stream has something to do by itself.
type times struct {
	timer     *time.Timer
	heartbeat time.Duration
	warnAt    time.Time // of the end that follows, if it is an expiry; zero: never, or done
	endAt     time.Time // zero: never
	endReason Reason
}

func newTimes(o *Options) *times {
	t := &times{timer: time.NewTimer(time.Hour), heartbeat: o.Heartbeat}
	now := time.Now()
	if o.MaxAge > 0 {
		t.endAt, t.endReason = now.Add(jitter(o.MaxAge*8/10, o.MaxAge)), ReasonAge
	}
	if !o.Expires.IsZero() && (t.endAt.IsZero() || o.Expires.Before(t.endAt)) {
		t.endAt, t.endReason = o.Expires, ReasonExpired
		t.warnAt = o.Expires.Add(-min(expiryNotice, max(0, o.Expires.Sub(now)/2)))
	}
	return t
}

// arm sets the timer to what comes first.
func (t *times) arm(wrote, endAt time.Time) {
	next := endAt
	if !t.warnAt.IsZero() && t.warnAt.Before(next) {
		next = t.warnAt
	}
	if t.heartbeat > 0 {
		if at := wrote.Add(t.heartbeat); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if next.IsZero() {
		t.timer.Stop()
		return
	}
	t.timer.Reset(time.Until(next))
}

// quiet reports whether a heartbeat is due.
func (t *times) quiet(wrote time.Time) bool {
	return t.heartbeat > 0 && time.Since(wrote) >= t.heartbeat
}

// opening is the data of the event evstream.open.
type opening struct {
	Session     string   `json:"session"`
	Channels    []string `json:"channels"`
	LastEventID string   `json:"last_event_id"`
}

// open writes what a stream begins with.
func (s *Session) open(c *conn) Reason {
	greeting := "evstream"
	if s.o.Padding {
		greeting += strings.Repeat(" ", 2<<10)
	}
	frame := sse.AppendComment(nil, greeting)
	start := s.sub.Start()
	retry := jitter(s.o.RetryMin, s.o.RetryMax).Milliseconds()
	switch {
	case s.o.NoOpen:
		frame = appendRetry(frame, retry)
	case s.sub.Opening():
		data, _ := json.Marshal(opening{s.ID(), s.Channels(), ""})
		frame = sse.AppendEvent(frame, &sse.Event{Type: "evstream.open", Retry: retry, Data: data})
	default:
		data, _ := json.Marshal(opening{s.ID(), s.Channels(), start.String()})
		frame = sse.AppendEvent(frame, &sse.Event{
			ID: start.String(), Type: "evstream.open", Retry: retry, Data: data,
		})
		c.sent = start
	}
	return c.write(frame)
}

// batches has the memory that sessions borrow while they write.
var batches = sync.Pool{New: func() any { return new(broker.Batch) }}

// writeNew writes all that is new, with one flush for each part of it that
// fits in a batch. No reason means that the stream goes on, or that its end is
// due: a reader that lags would else put it off for as long as events come.
func (s *Session) writeNew(ctx context.Context, c *conn, t *times) Reason {
	batch := batches.Get().(*broker.Batch)
	defer batches.Put(batch)
	var until broker.ID // where a stream leaves off that does not come back
	for {
		opening := c.sent.IsZero() && s.sub.Opening()
		if err := s.sub.Read(batch); err != nil {
			return ReasonClosed
		}
		frames := s.takePushed()
		if batch.Gap != nil {
			frames = appendGap(frames, batch.Gap, s.sub.Start(), c.sent.IsZero() && !opening)
		}
		var at []byte
		if opening && !s.sub.Opening() { // this batch has the last of the values
			c.sent = s.sub.Start()
			at = appendAt(nil, c.sent, 0)
		}
		if len(frames) > 0 || batch.Events > 0 || at != nil {
			if reason := c.write(frames, batch.Bytes, at); reason != "" {
				return reason
			}
			s.delivered.Add(uint64(batch.Events))
			if batch.Last.After(c.sent) {
				c.sent = batch.Last
			}
		}
		if !batch.More {
			return ""
		}
		if ctx.Err() != nil {
			return ReasonClient
		}
		switch at, reason := s.planned(t); {
		case !due(at):
		case reason != ReasonEnded: // the client resumes where it was told
			return ""
		case until.IsZero():
			until = s.broker.Head()
		case !until.After(s.sub.Cursor()):
			return ""
		}
	}
}

// due reports whether it is time for an end that is planned.
func due(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// heartbeat writes a sign of life. Where the cursor has moved past events that
// the client did not get, it tells the client the new one.
func (s *Session) heartbeat(c *conn) Reason {
	var frame []byte
	cursor := s.sub.Cursor()
	if cursor.After(c.sent) {
		frame = appendAt(frame, cursor, 0)
		c.sent = cursor
	}
	switch {
	case s.o.HeartbeatEvent:
		frame = sse.AppendEvent(frame, &sse.Event{Type: "heartbeat"})
	case frame == nil:
		frame = append(frame, ":\n\n"...)
	}
	return c.write(frame)
}

// bye writes the last words of a stream. Nobody is left to act on an error.
func (s *Session) bye(c *conn, reason Reason) {
	if reason == ReasonEnded {
		_ = c.write(sse.AppendEvent(nil, &sse.Event{ID: EndID, Type: "end"}))
		return
	}
	retry := jitter(s.o.RetryMin, s.o.RetryMax).Milliseconds()
	if cursor := s.sub.Cursor(); cursor.After(c.sent) && !s.sub.Opening() {
		_ = c.write(appendAt(nil, cursor, retry))
		return
	}
	_ = c.write(appendRetry(nil, retry))
}

// appendAt tells the client its cursor.
func appendAt(dst []byte, cursor broker.ID, retry int64) []byte {
	return sse.AppendEvent(dst, &sse.Event{ID: cursor.String(), Type: "evstream.at", Retry: retry})
}

// appendRetry tells the client how long to wait, without an event.
func appendRetry(dst []byte, retry int64) []byte {
	block := sse.AppendEvent(nil, &sse.Event{Retry: retry})
	return append(append(dst, block[:len(block)-len("data: \n\n")]...), '\n')
}

// expiryNotice is how long before it ends for its credential's sake a stream
// says so.
const expiryNotice = 30 * time.Second

// appendExpiring tells the client that its credential is about to expire.
func appendExpiring(dst []byte, at time.Time) []byte {
	data, _ := json.Marshal(struct {
		Expires time.Time `json:"expires"`
	}{at.UTC().Truncate(time.Second)})
	return sse.AppendEvent(dst, &sse.Event{Type: "evstream.expiring", Data: data})
}

// gap is the data of the event evstream.gap.
type gap struct {
	Reason string     `json:"reason"`
	Oldest *broker.ID `json:"oldest"`
	Newest *broker.ID `json:"newest"`
}

// appendGap announces a gap. To a client that holds no good cursor yet it
// gives one.
func appendGap(dst []byte, g *broker.Gap, start broker.ID, cursorless bool) []byte {
	announced := gap{Reason: g.Reason}
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
