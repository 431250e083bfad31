package stream

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// script is how far a stream has come, and when it has something to say by
// itself.
type streamState struct {
	opened    bool
	atHead    bool   // there was no more to read than what was handed out
	ending    bool   // something was read since the end was due
	cursorDue bool   // the client has its values, and is to be given a cursor
	endedFor  Reason // the last words have been handed out, for this reason

	wrote     instant // when the last write was finished
	warnAt    instant // when to announce the end, if that is an expiry
	endAt     instant
	endReason Reason
	expires   int64     // in seconds since 1970: what is announced
	until     broker.ID // where a stream leaves off that does not come back

	size int64     // of all that was written, in bytes
	sent broker.ID // the newest position that the client was told
	// What was handed out and is not known to be written.
	events int
	last   broker.ID
}

// expiryNotice is how long before it ends for its credential's sake a stream
// says so.
const expiryNotice = 30 * time.Second

// plan sets the end that the options ask for.
func (st *streamState) planEnd(o *Options, now instant) {
	st.warnAt, st.endAt = never, never
	if o.MaxAge > 0 {
		st.endAt, st.endReason = now+jitter(o.MaxAge/10*8, o.MaxAge), ReasonAge
	}
	if o.Expires.IsZero() {
		return
	}
	// What the clock says now, and not what it said when the server began: it
	// may have been set since.
	at := now + min(time.Until(o.Expires), never-now)
	if at < st.endAt {
		st.endAt, st.endReason, st.expires = at, ReasonExpired, o.Expires.Unix()
		st.warnAt = at - min(expiryNotice, max(0, (at-now)/2))
	}
}

// step is what whoever writes a stream does next.
type step uint8

const (
	stepWrite step = iota // what was handed out, then ask again
	stepAgain             // there is nothing to write yet: ask again
	stepWait              // until the stream is woken, or something is due
	stepEnd               // the stream is over
)

// next decides what the stream says: frames of its own, then the bytes of
// batch, which are good until the next call. When all of it has been written
// written is called, and then next again.
func (s *Session) next(batch *broker.Batch, now instant) (frames []byte, todo step) {
	st := &s.state
	batch.Bytes = nil
	switch {
	case st.endedFor != "":
		return nil, stepEnd
	case !st.opened:
		st.opened = true
		return s.openingFrames(), stepWrite
	}
	if s.requested.Load() {
		frames = s.takeRequests()
	}
	due := now >= st.endAt
	if st.atHead && !st.cursorDue && len(frames) == 0 && !due && now < st.warnAt {
		st.atHead = false
		return nil, stepWait // what has come since has woken the stream again
	}
	if due && st.endReason.forbids() {
		return s.closingFrames(nil, st.endReason), stepWrite
	}
	if due && st.ending && (st.endReason != ReasonEnded || !st.until.After(s.sub.Cursor())) {
		return s.closingFrames(frames, st.endReason), stepWrite
	}
	if st.cursorDue {
		st.cursorDue, frames = false, s.appendStartCursor(frames)
	}
	opening := st.sent.IsZero() && s.sub.Opening()
	if err := s.sub.Read(batch); err != nil {
		return s.closingFrames(frames, ReasonClosed), stepWrite
	}
	if batch.Gap != nil {
		frames = appendGap(frames, batch.Gap, s.sub.Start(), st.sent.IsZero() && !opening)
	}
	if opening && !s.sub.Opening() { // these were the last of the values
		switch { // what has an id of its own gives a newer cursor
		case batch.Events == 0:
			frames = s.appendStartCursor(frames)
		case batch.Last.IsZero():
			st.cursorDue = true
		}
	}
	if due && !st.ending && (batch.Events > 0 || batch.More) {
		// A reader that lags would put its end off for as long as events come.
		st.ending, st.until = true, s.server.broker.Head()
	}
	switch {
	case batch.Events > 0:
		st.events, st.last, st.atHead = batch.Events, batch.Last, !batch.More
		return frames, stepWrite
	case batch.More && len(frames) > 0:
		return frames, stepWrite
	case batch.More:
		return nil, stepAgain // what was read is not for this stream, or it fell off the history
	case due:
		return s.closingFrames(frames, st.endReason), stepWrite
	case now >= st.warnAt:
		st.warnAt = never
		return appendExpiring(frames, st.expires), stepWrite
	case len(frames) > 0:
		return frames, stepWrite
	case s.behavior.heartbeat > 0 && now-st.wrote >= s.behavior.heartbeat:
		return s.heartbeatFrame(), stepWrite
	}
	return nil, stepWait
}

// forbids reports whether a stream that ends for this reason may not be told
// what is new by then.
func (r Reason) forbids() bool {
	return r == ReasonRefused || r == ReasonRevoked || r == ReasonExpired
}

// written says that all that next handed out has been written.
func (s *Session) written(now instant) {
	st := &s.state
	st.wrote = now
	if st.events == 0 {
		return
	}
	s.delivered.Add(uint64(st.events))
	if st.last.After(st.sent) {
		st.sent = st.last
	}
	st.events = 0
}

// due is when the stream has something to say by itself.
func (s *Session) due() instant {
	st := &s.state
	at := min(st.endAt, st.warnAt)
	if s.behavior.heartbeat > 0 {
		at = min(at, st.wrote+s.behavior.heartbeat)
	}
	return at
}

// hear takes over what others have asked of the stream, and returns what was
// pushed.
func (s *Session) takeRequests() (frames []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requested.Store(false)
	if st := &s.state; s.reason != "" && s.endAt < st.endAt {
		st.endAt, st.endReason, st.warnAt = s.endAt, s.reason, never
	}
	frames, s.pushed = s.pushed, nil
	if s.pushRoom != nil {
		close(s.pushRoom)
		s.pushRoom = nil
	}
	return frames
}
