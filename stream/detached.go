package stream

import (
	"errors"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/broker"
)

// detached is a stream that a writer writes to a connection of its own. Only
// the writer's goroutine uses it, but for the methods that are said to be safe
// for concurrent use.
type detached struct {
	session *Session
	conn    rawConn
	writer  *writer

	queued     atomic.Bool // in the writer's inbox, or about to be
	urgent     atomic.Bool // among the writer's urgent, or about to be
	writable   atomic.Bool // the connection may take bytes again
	clientGone atomic.Bool // the client has closed the connection
	aborted    atomic.Bool // see abort
	mustEnd    atomic.Bool // see endNow
	closed     bool        // the connection is closed
	lagging    bool        // in writer.lagging
	bare       bool        // conn frames the body itself: see frontConn and takenConn

	// rest is what is left of an unfinished write: nil before the first, empty
	// when it is finished. While there is a rest, since is when its write began, or
	// its newest piece of maxPiece bytes, and taken counts the bytes written since
	// then.
	taken int32 // no more than maxPiece and one write
	since instant
	rest  *chunk
}

// wake has the writer serve the stream: with a crowd, or before it. It is safe for
// concurrent use and does not block.
func (d *detached) wake(crowd bool) {
	switch {
	case d.urgent.Load():
	case crowd && !d.queued.Load() && !d.queued.Swap(true):
		d.writer.add(d)
	case !crowd && !d.urgent.Swap(true):
		d.writer.addUrgent(d)
	}
}

// onWritable implements watcher.
func (d *detached) onWritable() {
	d.writable.Store(true)
	d.wake(true)
}

// onHangup implements watcher.
func (d *detached) onHangup() {
	d.clientGone.Store(true)
	d.wake(true)
}

// abort ends the stream if it waits for the connection to become writable. It is
// safe for concurrent use.
func (d *detached) abort() {
	d.aborted.Store(true)
	d.wake(true)
}

// endNow ends the stream after one last attempt to write what is new. It is safe
// for concurrent use.
func (d *detached) endNow() {
	d.mustEnd.Store(true)
	d.wake(true)
}

// batchesPerTurn bounds how many batches of one stream are written before the
// other streams have their turn: one that has much to replay must not delay
// them.
const batchesPerTurn = 1

// serve writes what is new, as far as the connection takes it. It reports false
// if there is more to write: the writer must call it again without waiting for a
// wake-up.
func (d *detached) serve(batch *broker.Batch) bool {
	if d.closed {
		return true
	}
	s := d.session
	now := s.server.now()
	if d.clientGone.Load() {
		d.fail()
		return true
	}
	if d.pending() {
		if !d.resume(now) {
			return true
		}
		s.state.atHead = false // what woke the stream meanwhile has not been read
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
				if !s.cuts() {
					c := &d.writer.chunk
					c.setLast()
					d.strip(c)
					_, _ = d.conn.write(c) // if there is room for it
				}
				d.end(ReasonClosed)
				return true
			}
			s.server.timers.wakeBy(&s.timer, s.due())
			return true
		}
		c := &d.writer.chunk
		c.set(frames, batch.Bytes, s.state.endedFor != "" && !s.cuts())
		d.strip(c)
		if !d.write(c, now) {
			if d.pending() {
				d.rest.pieces[2] = batch.Keep(d.rest.pieces[2])
			}
			return true
		}
		if !s.state.atHead {
			more++
		}
	}
	s.state.atHead = false // events that come before its next turn do not wake it
	return false
}

// strip takes from c what the connection does not need.
func (d *detached) strip(c *chunk) {
	if d.bare {
		c.strip()
	}
}

// pending reports whether a write is unfinished.
func (d *detached) pending() bool { return d.rest != nil && d.rest.left() > 0 }

// resume goes on with an unfinished write, and reports whether it is finished.
func (d *detached) resume(now instant) bool {
	if !d.writable.Swap(false) {
		d.await(now)
		return false
	}
	return d.write(d.rest, now)
}

// write writes c, and reports whether all of it is written. If not, what is left
// is in d.rest, or the stream has ended.
func (d *detached) write(c *chunk, now instant) bool {
	d.writable.Store(false) // before the attempt: onWritable may be called right after it
	if c != d.rest {
		d.since, d.taken = now, 0
	}
	for {
		body := c.body()
		n, err := d.conn.write(c)
		if d.taken += int32(n); d.taken >= maxPiece {
			d.since, d.taken = now, 0
		}
		c.written(n)
		if n := body - c.body(); n > 0 {
			d.session.state.size += int64(n)
			d.writer.figures.bytes.Add(uint64(n))
		}
		switch {
		case err == nil && c.left() == 0:
			c.clear() // it would keep the history in memory
			d.session.written(now)
			return true
		case err == nil:
			// onWritable is called only after errFull.
			continue
		case !errors.Is(err, errFull):
			d.fail()
			return false
		}
		if c != d.rest {
			if d.rest == nil {
				d.rest = new(chunk)
			}
			d.rest.copyOf(c)
		}
		d.await(now)
		return false
	}
}

// await leaves the rest until the connection is writable, or ends the stream if
// it may not wait any longer.
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

// fail ends a stream whose connection is broken, or was closed by the client, which
// may do that as soon as it has read the last chunk.
func (d *detached) fail() {
	if reason := d.session.state.endedFor; reason != "" {
		d.end(reason) // the stream was ending anyway
		return
	}
	d.end(ReasonClient)
}

// end ends the stream. The system still sends what was written. A stream that ends
// in good order, and is not cut, has written its last chunk.
func (d *detached) end(reason Reason) { d.finish(reason, false) }

// finish closes the connection, as rawConn.close does, and ends the stream.
func (d *detached) finish(reason Reason, hard bool) {
	d.closed = true
	d.rest = nil
	d.conn.close(hard)
	d.writer.all.closer.add(d, reason)
}
