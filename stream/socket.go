package stream

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/broker"
)

// line is a connection as those see it who write detached streams. Its methods do
// not wait, and are called by one goroutine, but for watch, which comes first,
// when the connection has been taken over, or drop, when it is not.
type line interface {
	// drop lets go of the connection, which is not touched, in place of watch.
	drop()
	// watch has w told what becomes of the connection.
	watch(w watcher)
	// write writes as much of frames and then of events as there is room for,
	// and returns how much that is. errFull says that there is no more room;
	// k.room is called when there is.
	write(frames, events []byte) (int, error)
	// close closes the connection. What was written and not sent yet is thrown
	// away if hard is set, else the system goes on to send it.
	close(hard bool)
}

// watcher is told what becomes of a connection. Its methods are safe for
// concurrent use and return at once.
type watcher interface {
	room()   // there is room again, where there was none
	hangup() // the client has left
}

// watched is a connection whose watcher is told.
type watched interface{ forget() }

// errFull is the error of a line that has no room now.
var errFull = errors.New("there is no room")

// poller makes lines and tells sockets what becomes of theirs.
type poller interface {
	// open makes a line of a connection, which remains its owner's to close:
	// to the line that makes no difference.
	open(conn *net.TCPConn) (line, error)
	// watch tells w what becomes of a connection, until it is forgotten.
	watch(conn *net.TCPConn, w watcher) (watched, error)
	run()
	// close stops it; no line is open any more.
	close()
}

// socket is a detached stream and its connection. But for the methods that say
// so, its writer alone uses it.
type socket struct {
	session *Session
	line    line
	crew    *crew
	writer  *writer

	queued  atomic.Bool // it is in the writer's inbox, or about to be
	hasRoom atomic.Bool // there may be room again
	hungUp  atomic.Bool // the client is gone
	hurried atomic.Bool // it must not wait for room
	left    atomic.Bool // the crew closes: what cannot be written now never will be
	closed  bool
	behind  bool // it is in the writer's list of those

	// What is not written yet, in full. While there is any, since is when its
	// writing began, or that of its newest piece, and taken what the line has
	// taken since then.
	frames, events []byte
	since          instant
	taken          int
}

// ready has the writer see to the socket. It is safe for concurrent use, and
// returns at once.
func (k *socket) ready() {
	if k.queued.Load() || k.queued.Swap(true) {
		return
	}
	k.writer.add(k)
}

// room says that the line may have room again; safe for concurrent use.
func (k *socket) room() {
	k.hasRoom.Store(true)
	k.ready()
}

// hangup says that the client is gone; safe for concurrent use.
func (k *socket) hangup() {
	k.hungUp.Store(true)
	k.ready()
}

// cut ends a stream that waits for room; safe for concurrent use.
func (k *socket) cut() {
	k.hurried.Store(true)
	k.ready()
}

// leave ends the stream at once, with what there is room for; safe for
// concurrent use.
func (k *socket) leave() {
	k.left.Store(true)
	k.ready()
}

// turns bounds how many batches one socket is given before others have theirs:
// those that have missed much are not to hold up the rest.
const turns = 1

// serve writes what is new, as far as there is room for it. It reports false if
// it is to be called again, though nothing wakes the stream.
func (k *socket) serve(batch *broker.Batch) bool {
	if k.closed {
		return true
	}
	s := k.session
	now := s.server.now()
	if k.hungUp.Load() {
		k.end(ReasonClient)
		return true
	}
	if k.pending() {
		if !k.resume(now) {
			return true
		}
		s.script.drained = false // what woke the stream meanwhile was not looked at
	}
	k.hurried.Store(false)
	for more := 0; more < turns; {
		frames, todo := s.next(batch, now)
		switch todo {
		case look:
			more++
			continue
		case part:
			k.end(s.script.parted)
			return true
		case wait:
			if k.left.Load() {
				k.end(ReasonClosed)
				return true
			}
			s.server.wheel.wake(&s.tooth, s.due())
			return true
		}
		if !k.write(frames, batch.Bytes, now) {
			k.events = batch.Keep(k.events)
			return true
		}
		if !s.script.drained {
			more++
		}
	}
	s.script.drained = false // what comes before its next turn does not wake it
	return false
}

// pending reports whether something is left of what was handed out.
func (k *socket) pending() bool { return len(k.frames)+len(k.events) > 0 }

// resume writes what is pending, and reports whether all of it is written.
func (k *socket) resume(now instant) bool {
	if !k.hasRoom.Swap(false) {
		k.await(now)
		return false
	}
	return k.write(k.frames, k.events, now)
}

// write writes frames and events, and reports whether all is written. If not,
// the rest is pending, or the stream has ended.
func (k *socket) write(frames, events []byte, now instant) bool {
	k.hasRoom.Store(false) // before it is tried: room may come just after
	if !k.pending() {
		k.since, k.taken = now, 0
	}
	for {
		n, err := k.line.write(frames, events)
		if k.taken += n; k.taken >= maxPiece {
			k.since, k.taken = now, 0
		}
		k.session.script.size += int64(n)
		if n < len(frames) {
			frames = frames[n:]
		} else {
			n -= len(frames)
			frames, events = nil, events[n:]
		}
		switch {
		case err == nil && len(frames)+len(events) == 0:
			k.frames, k.events = nil, nil
			k.session.written(now)
			return true
		case err == nil:
			// Only a line that has said so tells when it has room again.
			continue
		case !errors.Is(err, errFull):
			k.fail()
			return false
		}
		k.frames, k.events = frames, events
		k.await(now)
		return false
	}
}

// await waits for room, unless the time for that is over.
func (k *socket) await(now instant) {
	s := k.session
	deadline := k.since + s.manner.writeTimeout
	switch {
	case s.script.parted != "" && (k.left.Load() || k.hurried.Load() || now >= deadline):
		k.finish(s.script.parted, true)
	case k.left.Load():
		k.finish(ReasonClosed, true)
	case k.hurried.Load() || now >= deadline:
		k.finish(ReasonSlow, true)
	default:
		s.server.wheel.wake(&s.tooth, deadline)
	}
}

// fail ends a stream whose connection is broken.
func (k *socket) fail() {
	if parted := k.session.script.parted; parted != "" {
		k.end(parted) // nobody is left to act on it
		return
	}
	k.end(ReasonClient)
}

// end ends the stream; the system sends what is on its way.
func (k *socket) end(reason Reason) { k.finish(reason, false) }

func (k *socket) finish(reason Reason, hard bool) {
	k.closed = true
	k.frames, k.events = nil, nil
	k.line.close(hard)
	k.crew.ended.add(k, reason)
}
