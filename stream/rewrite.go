package stream

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Rewriter has a say in what is written to one stream. Its methods are called by the
// goroutine that writes the stream, so they must return at once; they may be called
// while the stream is being closed, and must not call the broker or the stream.
type Rewriter interface {
	// Decodes reports whether Rewrite gets the events. If not, they are written as they
	// are, and Rewrite gets none.
	Decodes() bool
	// Rewrite appends to dst what the client gets for events, which may be none: it is
	// called whenever the stream is woken, too. end says that the stream ends after that.
	Rewrite(dst []byte, events []broker.Delivery) (_ []byte, end bool)
	// Heartbeat says after how long the stream gets a heartbeat, which one, and whether
	// other writes put it off. A duration that is not above zero is never; data nil is
	// the usual one.
	Heartbeat() (every time.Duration, data []byte, interval bool)
}

// maxRewritten bounds how many events a Rewriter gets at once: what it makes of them
// waits in memory until the client has taken it.
const maxRewritten = 64

// read reads what is new into batch. For a Rewriter it appends to frames what that makes
// of it, and leaves no events in batch; end says that the stream ends after frames.
func (s *Session) read(batch *broker.Batch, frames []byte) (_ []byte, end bool, err error) {
	if s.rewriter == nil {
		return frames, false, s.sub.Read(batch)
	}
	limit := batch.Max
	if batch.Decode = s.rewriter.Decodes(); batch.Decode {
		batch.Max = maxRewritten
	}
	err = s.sub.Read(batch)
	decoded := batch.Decode
	batch.Decode, batch.Max = false, limit
	if err != nil {
		return frames, false, err
	}
	before := len(frames)
	frames, end = s.rewriter.Rewrite(frames, batch.Deliveries)
	if !decoded {
		return frames, end, nil
	}
	if len(frames) > before {
		s.state.rewritten = int32(batch.Events)
	}
	batch.Deliveries, batch.Events = nil, 0
	return frames, end, nil
}

// heartbeatDue reports whether the stream is due for a heartbeat.
func (s *Session) heartbeatDue(now instant) bool {
	every, since := s.heartbeatPlan()
	return every > 0 && now-since >= every
}

// heartbeatPlan is after how long, since when, the stream gets a heartbeat.
func (s *Session) heartbeatPlan() (every time.Duration, since instant) {
	if s.rewriter == nil {
		return s.behavior.heartbeat, s.state.wrote
	}
	every, _, interval := s.rewriter.Heartbeat()
	if interval {
		return every, s.state.beaten
	}
	return every, s.state.wrote
}
