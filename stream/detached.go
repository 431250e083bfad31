package stream

import (
	"errors"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/broker"
)

// socket is a detached stream and its connection. But for the methods that say
// so, its writer alone uses it.
type detached struct {
	session *Session
	conn    rawConn
	writers *writers
	writer  *writer

	queued     atomic.Bool // it is in the writer's inbox, or about to be
	writable   atomic.Bool // there may be room again
	clientGone atomic.Bool // the client is gone
	aborted    atomic.Bool // it must not wait for room
	mustEnd    atomic.Bool // the crew closes: what cannot be written now never will be
	closed     bool
	lagging    bool // it is in the writer's list of those

	// What is not written yet, in full. While there is any, since is when its
	// writing began, or that of its newest piece, and taken what the line has
	// taken since then.
	frames, events []byte
	since          instant
	taken          int
}

// ready has the writer see to the socket. It is safe for concurrent use, and
// returns at once.
func (d *detached) wake() {
	if d.queued.Load() || d.queued.Swap(true) {
		return
	}
	d.writer.add(d)
}

// room says that the line may have room again; safe for concurrent use.
func (d *detached) onWritable() {
	d.writable.Store(true)
	d.wake()
}

// hangup says that the client is gone; safe for concurrent use.
func (d *detached) onHangup() {
	d.clientGone.Store(true)
	d.wake()
}

// cut ends a stream that waits for room; safe for concurrent use.
func (d *detached) abort() {
	d.aborted.Store(true)
	d.wake()
}

// leave ends the stream at once, with what there is room for; safe for
// concurrent use.
func (d *detached) endNow() {
	d.mustEnd.Store(true)
	d.wake()
}

// turns bounds how many batches one socket is given before others have theirs:
// those that have missed much are not to hold up the rest.
const batchesPerTurn = 1

// serve writes what is new, as far as there is room for it. It reports false if
// it is to be called again, though nothing wakes the stream.
func (d *detached) serve(batch *broker.Batch) bool {
	if d.closed {
		return true
	}
	s := d.session
	now := s.server.now()
	if d.clientGone.Load() {
		d.end(ReasonClient)
		return true
	}
	if d.pending() {
		if !d.resume(now) {
			return true
		}
		s.state.atHead = false // what woke the stream meanwhile was not looked at
	}
	d.aborted.Store(false)
	for more := 0; more < batchesPerTurn; {
		frames, todo := s.next(batch, now)
		switch todo {
		case stepAgain:
			more++
			continue
		case stepEnd:
			d.end(s.state.endedFor)
			return true
		case stepWait:
			if d.mustEnd.Load() {
				d.end(ReasonClosed)
				return true
			}
			s.server.timers.wakeBy(&s.timer, s.due())
			return true
		}
		if !d.write(frames, batch.Bytes, now) {
			d.events = batch.Keep(d.events)
			return true
		}
		if !s.state.atHead {
			more++
		}
	}
	s.state.atHead = false // what comes before its next turn does not wake it
	return false
}

// pending reports whether something is left of what was handed out.
func (d *detached) pending() bool { return len(d.frames)+len(d.events) > 0 }

// resume writes what is pending, and reports whether all of it is written.
func (d *detached) resume(now instant) bool {
	if !d.writable.Swap(false) {
		d.await(now)
		return false
	}
	return d.write(d.frames, d.events, now)
}

// write writes frames and events, and reports whether all is written. If not,
// the rest is pending, or the stream has ended.
func (d *detached) write(frames, events []byte, now instant) bool {
	d.writable.Store(false) // before it is tried: room may come just after
	if !d.pending() {
		d.since, d.taken = now, 0
	}
	for {
		n, err := d.conn.write(frames, events)
		if d.taken += n; d.taken >= maxPiece {
			d.since, d.taken = now, 0
		}
		d.session.state.size += int64(n)
		if n < len(frames) {
			frames = frames[n:]
		} else {
			n -= len(frames)
			frames, events = nil, events[n:]
		}
		switch {
		case err == nil && len(frames)+len(events) == 0:
			d.frames, d.events = nil, nil
			d.session.written(now)
			return true
		case err == nil:
			// Only a line that has said so tells when it has room again.
			continue
		case !errors.Is(err, errFull):
			d.fail()
			return false
		}
		d.frames, d.events = frames, events
		d.await(now)
		return false
	}
}

// await waits for room, unless the time for that is over.
func (d *detached) await(now instant) {
	s := d.session
	deadline := d.since + s.behavior.writeTimeout
	switch {
	case s.state.endedFor != "" && (d.mustEnd.Load() || d.aborted.Load() || now >= deadline):
		d.finish(s.state.endedFor, true)
	case d.mustEnd.Load():
		d.finish(ReasonClosed, true)
	case d.aborted.Load() || now >= deadline:
		d.finish(ReasonSlow, true)
	default:
		s.server.timers.wakeBy(&s.timer, deadline)
	}
}

// fail ends a stream whose connection is broken.
func (d *detached) fail() {
	if parted := d.session.state.endedFor; parted != "" {
		d.end(parted) // nobody is left to act on it
		return
	}
	d.end(ReasonClient)
}

// end ends the stream; the system sends what is on its way.
func (d *detached) end(reason Reason) { d.finish(reason, false) }

func (d *detached) finish(reason Reason, hard bool) {
	d.closed = true
	d.frames, d.events = nil, nil
	d.conn.close(hard)
	d.writers.closer.add(d, reason)
}
