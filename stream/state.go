package stream

import (
	"errors"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// streamState says how far a stream has been written, and when it has something
// to write by itself. Only the goroutine that writes the stream uses it.
type streamState struct {
	opened    bool // the opening was returned by next
	atHead    bool // the last read found no more than it returned
	cursorDue bool // the client has been sent the values, and must be sent a cursor
	http10    bool // the request is of HTTP/1.0

	// The events that next returned and that are not known to be written.
	events    int32
	rewritten int32 // those that a Rewriter has made something of
	last      broker.ID

	*ending // not modified: see own

	wrote  instant   // when the last write finished
	beaten instant   // when the last heartbeat was written, or the stream began
	sent   broker.ID // the newest cursor that the client was sent
	size   int64     // bytes written so far
	began  int64     // in milliseconds of ids: what was published later was not there before
}

// ending says when and why a stream ends.
type ending struct {
	warnAt    instant // when to announce that the credential expires, or never
	endAt     instant // when to end, or never
	endReason Reason
	expires   int64 // Unix time of the expiry, to be announced

	begun    bool      // the end is due, but events before it are still being written
	until    broker.ID // head of the log when begun was set: End writes the stream up to there
	endedFor Reason    // the closing frames were returned by next, for this reason
	complete bool      // it has ended because all its channels are closed
}

// noEnding is that of the streams that go on, for all that is known.
var noEnding = &ending{warnAt: never, endAt: never}

// own returns the ending of a stream, to modify it.
func (st *streamState) own() *ending {
	if st.ending == noEnding {
		e := *noEnding
		st.ending = &e
	}
	return st.ending
}

// end sets the time and reason of the end, and that it is not announced.
func (st *streamState) end(at instant, reason Reason) {
	e := st.own()
	e.endAt, e.endReason, e.warnAt = at, reason, never
}

// expiryNotice is how long before its credential expires a stream announces it.
const expiryNotice = 30 * time.Second

// planEnd sets the time and reason of the end from the options.
func (st *streamState) planEnd(o *Options, now instant) {
	st.ending = noEnding
	if o.MaxAge > 0 {
		st.end(now+jitter(o.MaxAge/10*8, o.MaxAge), ReasonAge)
	}
	if o.Expires.IsZero() {
		return
	}
	// By the wall clock of now: it may have been set since the server began.
	at := now + min(time.Until(o.Expires), never-now)
	if at < st.endAt {
		st.end(at, ReasonExpired)
		st.expires = o.Expires.Unix()
		if !o.Raw {
			st.warnAt = at - min(expiryNotice, max(0, (at-now)/2))
		}
	}
}

// step is what the goroutine that writes a stream does next.
type step uint8

const (
	stepWrite step = iota // write what next returned, then call next again
	stepAgain             // call next again: there was nothing to write in what it read
	stepWait              // wait until the stream is woken, or due
	stepEnd               // end the stream, for streamState.endedFor
)

// next decides what the stream writes next: frames of its own, then the bytes of
// batch, which are valid until the next call. When all of it is written, the
// caller calls written, and then next again. Only the goroutine that writes the
// stream may call it.
func (s *Session) next(batch *broker.Batch, now instant) (frames []byte, todo step) {
	st := &s.state
	batch.Bytes = nil
	switch {
	case st.endedFor != "":
		return nil, stepEnd
	case !st.opened:
		st.opened, st.beaten = true, now
		st.began = int64(s.server.broker.Head().Ms) + 1
		frames = s.openingFrames()
		s.extras = s.afterOpening()
		return frames, stepWrite
	}
	if s.requested.Load() {
		frames = s.takeRequests()
	}
	due := now >= st.endAt
	if st.atHead && !st.cursorDue && len(frames) == 0 && !due && now < st.warnAt {
		st.atHead = false
		return nil, stepWait // later events wake the stream again
	}
	if due && st.endReason.forbids() {
		return s.closingFrames(nil, st.endReason), stepWrite
	}
	if due && st.begun && (st.endReason != ReasonEnded || !st.until.After(s.sub.Cursor())) {
		return s.closingFrames(frames, st.endReason), stepWrite
	}
	if st.cursorDue {
		st.cursorDue, frames = false, s.appendStartCursor(frames)
	}
	opening := st.sent.IsZero() && s.sub.Opening()
	frames, over, err := s.read(batch, frames)
	switch {
	case errors.Is(err, broker.ErrClosed):
		return s.closingFrames(frames, ReasonClosed), stepWrite
	case err != nil: // it may not have the broker look for where it goes on, now
		return s.closingFrames(frames, ReasonSlow), stepWrite
	}
	if batch.Gap != nil && s.behavior.raw {
		st.own().endedFor = ReasonGap
		return nil, stepEnd
	}
	if len(batch.Changes) > 0 && !s.behavior.raw {
		frames = s.appendChanges(frames, batch.Changes)
	}
	if batch.Gap != nil {
		frames = appendGap(frames, batch.Gap, s.sub.Start(), st.sent.IsZero() && !opening)
	}
	for _, c := range batch.Closed {
		if !batch.End && !s.behavior.raw {
			frames = appendClosed(frames, c.Channel)
		}
	}
	if opening && !s.sub.Opening() { // the values are complete
		switch { // an event with an id gives the client a newer cursor
		case batch.Events == 0:
			frames = s.appendStartCursor(frames)
		case batch.Last.IsZero():
			st.cursorDue = true
		}
	}
	if over && !due { // what was read with it goes out first
		due = true
		st.end(now, ReasonEnded)
	}
	if batch.End {
		st.own().complete = true
		return s.closingFrames(frames, ReasonEnded), stepWrite
	}
	if due && !st.begun && (batch.Events > 0 || batch.More) {
		// Later events must not postpone the end of a reader that lags.
		st.begun, st.until = true, s.server.broker.Head()
	}
	switch {
	case batch.Events > 0:
		st.events, st.last, st.atHead = int32(batch.Events), batch.Last, !batch.More
		return frames, stepWrite
	case batch.More && len(frames) > 0:
		return frames, stepWrite
	case batch.More:
		return nil, stepAgain // all that was read was filtered out, or trimmed from the history
	case due:
		return s.closingFrames(frames, st.endReason), stepWrite
	case now >= st.warnAt:
		st.warnAt = never
		return appendExpiring(frames, st.expires), stepWrite
	case len(frames) > 0:
		return frames, stepWrite
	case s.heartbeatDue(now):
		st.beaten = now
		return s.heartbeatFrame(), stepWrite
	}
	return nil, stepWait
}

// cuts reports whether the response of a stream that has ended is cut, so that its client
// does not take it for all that there is.
func (s *Session) cuts() bool {
	return s.state.endedFor == ReasonGap || s.behavior.whole && !s.state.complete
}

// forbids reports whether a stream that ends for this reason must not be sent the
// events that are still unwritten: the client may not read them any more.
func (r Reason) forbids() bool {
	return r == ReasonRefused || r == ReasonRevoked || r == ReasonExpired
}

// written tells the state that all that next returned has been written.
func (s *Session) written(now instant) {
	st := &s.state
	st.wrote = now
	if st.rewritten > 0 {
		s.delivered.Add(uint64(st.rewritten))
		st.rewritten = 0
	}
	if st.events == 0 {
		return
	}
	s.delivered.Add(uint64(st.events))
	if st.last.After(st.sent) {
		st.sent = st.last
	}
	s.wroteEvents(now)
	st.events = 0
}

// due returns when the stream has something to write by itself.
func (s *Session) due() instant {
	st := &s.state
	at := min(st.endAt, st.warnAt)
	if every, since := s.heartbeatPlan(); every > 0 {
		at = min(at, since+every)
	}
	return at
}

// takeRequests takes over the end that was requested by other goroutines, and
// returns the events that they have pushed.
func (s *Session) takeRequests() (frames []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requested.Store(false)
	r := s.requests
	if r.reason != "" && r.endAt < s.state.endAt {
		s.state.end(r.endAt, r.reason)
	}
	frames = r.takePushed()
	if r.reason == "" && r.endText == "" {
		s.requests = nil // many streams begin with something that was pushed
	}
	return frames
}
