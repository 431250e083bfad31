package stream

import (
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// script is how far a stream has come, and when it has something to say by
// itself.
type script struct {
	opened  bool
	drained bool   // there was no more to read than what was handed out
	ending  bool   // something was read since the end was due
	owed    bool   // the client has its values, and is to be given a cursor
	parted  Reason // the last words have been handed out, for this reason

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
func (p *script) plan(o *Options, now instant) {
	p.warnAt, p.endAt = never, never
	if o.MaxAge > 0 {
		p.endAt, p.endReason = now+jitter(o.MaxAge/10*8, o.MaxAge), ReasonAge
	}
	if o.Expires.IsZero() {
		return
	}
	// What the clock says now, and not what it said when the server began: it
	// may have been set since.
	at := now + min(time.Until(o.Expires), never-now)
	if at < p.endAt {
		p.endAt, p.endReason, p.expires = at, ReasonExpired, o.Expires.Unix()
		p.warnAt = at - min(expiryNotice, max(0, (at-now)/2))
	}
}

// step is what whoever writes a stream does next.
type step uint8

const (
	write step = iota // what was handed out, then ask again
	look              // there is nothing to write yet: ask again
	wait              // until the stream is woken, or something is due
	part              // the stream is over
)

// next decides what the stream says: frames of its own, then the bytes of
// batch, which are good until the next call. When all of it has been written
// written is called, and then next again.
func (s *Session) next(batch *broker.Batch, now instant) (frames []byte, todo step) {
	p := &s.script
	batch.Bytes = nil
	switch {
	case p.parted != "":
		return nil, part
	case !p.opened:
		p.opened = true
		return s.opening(), write
	}
	if s.news.Load() {
		frames = s.hear()
	}
	due := now >= p.endAt
	if p.drained && !p.owed && len(frames) == 0 && !due && now < p.warnAt {
		p.drained = false
		return nil, wait // what has come since has woken the stream again
	}
	if due && p.endReason.forbids() {
		return s.bye(nil, p.endReason), write
	}
	if due && p.ending && (p.endReason != ReasonEnded || !p.until.After(s.sub.Cursor())) {
		return s.bye(frames, p.endReason), write
	}
	if p.owed {
		p.owed, frames = false, s.giveCursor(frames)
	}
	opening := p.sent.IsZero() && s.sub.Opening()
	if err := s.sub.Read(batch); err != nil {
		return s.bye(frames, ReasonClosed), write
	}
	if batch.Gap != nil {
		frames = appendGap(frames, batch.Gap, s.sub.Start(), p.sent.IsZero() && !opening)
	}
	if opening && !s.sub.Opening() { // these were the last of the values
		switch { // what has an id of its own gives a newer cursor
		case batch.Events == 0:
			frames = s.giveCursor(frames)
		case batch.Last.IsZero():
			p.owed = true
		}
	}
	if due && !p.ending && (batch.Events > 0 || batch.More) {
		// A reader that lags would put its end off for as long as events come.
		p.ending, p.until = true, s.server.broker.Head()
	}
	switch {
	case batch.Events > 0:
		p.events, p.last, p.drained = batch.Events, batch.Last, !batch.More
		return frames, write
	case batch.More && len(frames) > 0:
		return frames, write
	case batch.More:
		return nil, look // what was read is not for this stream, or it fell off the history
	case due:
		return s.bye(frames, p.endReason), write
	case now >= p.warnAt:
		p.warnAt = never
		return appendExpiring(frames, p.expires), write
	case len(frames) > 0:
		return frames, write
	case s.manner.heartbeat > 0 && now-p.wrote >= s.manner.heartbeat:
		return s.heartbeat(), write
	}
	return nil, wait
}

// forbids reports whether a stream that ends for this reason may not be told
// what is new by then.
func (r Reason) forbids() bool {
	return r == ReasonRefused || r == ReasonRevoked || r == ReasonExpired
}

// written says that all that next handed out has been written.
func (s *Session) written(now instant) {
	p := &s.script
	p.wrote = now
	if p.events == 0 {
		return
	}
	s.delivered.Add(uint64(p.events))
	if p.last.After(p.sent) {
		p.sent = p.last
	}
	p.events = 0
}

// due is when the stream has something to say by itself.
func (s *Session) due() instant {
	p := &s.script
	at := min(p.endAt, p.warnAt)
	if s.manner.heartbeat > 0 {
		at = min(at, p.wrote+s.manner.heartbeat)
	}
	return at
}

// hear takes over what others have asked of the stream, and returns what was
// pushed.
func (s *Session) hear() (frames []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news.Store(false)
	if p := &s.script; s.reason != "" && s.endAt < p.endAt {
		p.endAt, p.endReason, p.warnAt = s.endAt, s.reason, never
	}
	frames, s.pushed = s.pushed, nil
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	return frames
}
