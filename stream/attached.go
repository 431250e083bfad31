package stream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// attached is a stream whose handler waits for it to end. It has a goroutine
// that writes it only while there is something to write: its stack, which is
// larger than all else that a stream needs, would be kept for as long.
type attached struct {
	session    *Session
	response   response
	ctx        context.Context // of the request: it ends when the client has left
	watch      connWatch       // tells when the client has left, where ctx does not
	clientGone atomic.Bool     // the client has
	state      atomic.Uint32
	done       sync.WaitGroup // until the stream has ended, and w is the handler's again
	h2         *h2conn        // of its connection; nil over HTTP/1
	panicked   any
	noTimers   bool // its server is closed, and the wheel does not turn

	writeDeadline atomic.Int64 // when what is being written has taken too long; 0: nothing is
	due           atomic.Int64 // when the stream has something to say by itself
}

// relieve has the system tell when the client leaves, in place of the server.
func (a *attached) watchConn(r *http.Request, conn net.Conn) bool {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	writers := a.session.server.writers
	if !ok || r.ProtoMajor != 1 || !writers.startPoller() {
		return false
	}
	watch, err := writers.poller.watch(tcp, a)
	if err != nil {
		return false
	}
	a.watch, a.ctx = watch, context.Background()
	// What the server learns from a read that fails, it does not forget.
	a.response.w.Header().Set("Connection", "close")
	return true
}

// hangup says that the client has left.
func (a *attached) onHangup() {
	a.clientGone.Store(true)
	a.wake()
}

// room is of no interest: the writes of an attached stream wait for it.
func (a *attached) onWritable() {}

// The states of an attached stream.
const (
	idle  = iota // nobody writes
	busy         // somebody writes
	again        // somebody writes, and is to look again
	ended        // it is over
)

// Wake has the stream written, by a goroutine of its own if there is none yet.
func (a *attached) wake() {
	for {
		switch state := a.state.Load(); state {
		case idle:
			if a.state.CompareAndSwap(idle, busy) {
				if a.h2 != nil {
					a.h2.add(a)
				} else {
					a.session.server.workers.do(a) // Wait waits for it
				}
				return
			}
		case busy:
			if a.state.CompareAndSwap(busy, again) {
				return
			}
		default:
			return
		}
	}
}

// run writes what there is to write.
func (a *attached) run() {
	s := a.session
	for {
		if reason := a.write(); reason != "" {
			a.state.Store(ended)
			if a.watch != nil {
				a.watch.stop()
			}
			if a.h2 != nil {
				s.server.h2conns.release(a.h2)
			}
			s.end(reason)
			if !a.noTimers {
				s.server.timers.release()
			}
			a.done.Done()
			return
		}
		due := s.due()
		a.due.Store(int64(due))
		s.server.timers.wakeBy(&s.timer, due)
		if a.state.CompareAndSwap(busy, idle) {
			return
		}
		a.state.Store(busy)
	}
}

// begin says that a write begins. One that is stalled is found by the wheel,
// which costs nothing while writes are quick. A deadline for each would cost
// more than the write itself over HTTP/2, where it is a message to the goroutine
// that serves the connection. Where the wheel does not turn there is one, which
// begin returns.
func (a *attached) startWrite(now instant) (until time.Time) {
	limit := now + a.session.behavior.writeTimeout
	if a.noTimers {
		until = a.session.server.began.Add(limit)
		a.response.setWriteDeadline(until)
		return until
	}
	a.writeDeadline.Store(int64(limit))
	a.session.server.timers.wakeBy(&a.session.timer, limit)
	return time.Time{}
}

// finish says that the write has finished.
func (a *attached) finishWrite() {
	if a.noTimers {
		a.response.setWriteDeadline(time.Time{})
		return
	}
	a.writeDeadline.Store(0)
	if !a.response.aborted.Load() {
		return
	}
	a.session.mu.Lock() // an abort is over then
	defer a.session.mu.Unlock()
	if a.response.aborted.Swap(false) {
		a.response.setWriteDeadline(time.Time{}) // it would fall on the next write
	}
}

// abort fails the write that goes on, if one does. Session.mu is held.
func (a *attached) abort() {
	again := a.response.aborted.Swap(true) // before limit is read: finish does it the other way round
	limit := a.writeDeadline.Load()
	if limit == 0 {
		if !again { // else finish waits for the lock, to end that abort
			a.response.aborted.Store(false)
		}
		return
	}
	a.response.setWriteDeadline(time.Now())
	if a.h2 == nil || again {
		return // whoever asks again and again would put sever off for as long
	}
	later := a.session.server.now() + resetGrace(a.session.behavior.writeTimeout)
	if a.writeDeadline.CompareAndSwap(limit, int64(later)) {
		a.session.server.timers.wakeBy(&a.session.timer, later)
	}
}

// resetTime is how long the client of an aborted HTTP/2 stream has to take the
// news. An exit may wait for it.
func resetGrace(writeTimeout time.Duration) time.Duration {
	return min(max(writeTimeout/8, time.Second), 5*time.Second)
}

// sever closes the connection of a write that was aborted in vain. Over HTTP/2
// that ends with a frame that tells the client; of one who reads nothing at all
// the connection is stuck, with all its streams.
func (a *attached) closeStuckConn() {
	s := a.session
	s.mu.Lock()
	limit := instant(a.writeDeadline.Load())
	stuck := !s.ended && a.response.aborted.Load() && limit != 0 && s.server.now() >= limit
	s.mu.Unlock()
	if stuck {
		_ = a.h2.conn.Close()
	}
}

// ring implements Session.ring.
func (a *attached) onTimer(now instant) instant {
	if limit := instant(a.writeDeadline.Load()); limit != 0 {
		if now < limit {
			return limit
		}
		end := a.session.Abort // which may wait for a lock
		if a.h2 != nil && a.response.aborted.Load() {
			end = a.closeStuckConn
		}
		a.session.server.timers.running.Go(end)
		return never
	}
	if due := instant(a.due.Load()); now < due {
		return due
	}
	a.wake()
	return never
}

// maxPiece bounds what is written at a time: a client that takes a large event
// slowly, but takes it, is not stalled.
const maxPiece = 128 << 10

// send writes frames and events, a piece at a time.
func (a *attached) send(frames, events []byte) (reason Reason) {
	for {
		piece := events[:min(len(events), maxPiece)]
		until := a.startWrite(a.session.server.now())
		reason = a.response.write(frames, piece, until)
		a.finishWrite()
		frames, events = nil, events[len(piece):]
		if reason != "" || len(events) == 0 {
			return reason
		}
	}
}

// batches has the memory that sessions borrow while they write.
var batches = sync.Pool{New: func() any { return new(broker.Batch) }}

// write writes all that is new, with one flush for each part of it that fits
// in a batch. No reason means that the stream goes on.
func (a *attached) write() (reason Reason) {
	s := a.session
	batch := batches.Get().(*broker.Batch)
	defer func() {
		if p := recover(); p != nil {
			a.panicked, reason = p, ReasonError
			return
		}
		batches.Put(batch)
	}()
	for !a.clientGone.Load() && a.ctx.Err() == nil {
		frames, todo := s.next(batch, s.server.now())
		switch todo {
		case stepAgain:
			continue
		case stepWait:
			return ""
		case stepEnd:
			return s.state.endedFor
		}
		reason := a.send(frames, batch.Bytes)
		switch {
		case reason == "":
			s.state.size += int64(len(frames) + len(batch.Bytes))
			s.written(s.server.now())
		case s.state.endedFor != "":
			return s.state.endedFor // nobody is left to act on it
		default:
			return reason
		}
	}
	return ReasonClient
}
