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

// attached is a stream that is written to a ResponseWriter while its handler
// waits. It occupies a goroutine for writing only while there is something to
// write: the stack is larger than all else that a stream needs, and would
// otherwise be kept as long as the stream lasts.
type attached struct {
	session    *Session
	response   response
	ctx        context.Context // of the request: canceled when the client leaves
	watch      connWatch       // tells when the client leaves, in place of ctx; nil if ctx does
	clientGone atomic.Bool     // watch has told that the client left
	state      atomic.Uint32   // idle, waiting, busy, again or ended
	queued     atomic.Bool     // among the crowd of the workers; not over HTTP/2
	done       sync.WaitGroup  // zero once the stream has ended and no longer uses the ResponseWriter
	h2         *h2conn         // its connection; nil over HTTP/1
	panicked   any             // value of a panic of the ResponseWriter
	noTimers   bool            // the Server was closed before, and its timers have stopped

	writeDeadline atomic.Int64 // instant at which the current write is aborted; 0: there is none
	due           atomic.Int64 // instant at which the stream has something to write by itself
}

// watchConn has the poller tell when the client leaves, in place of the HTTP
// server. It reports false, and has changed nothing, where that is impossible, and where
// a client has to see a cut: with "Connection: close" the fetch of Node.js takes a body that
// is cut off for a complete one.
func (a *attached) watchConn(r *http.Request, conn net.Conn) bool {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	writers := a.session.server.writers
	if !ok || r.ProtoMajor != 1 || a.session.behavior.whole || !writers.startPoller() {
		return false
	}
	watch, err := writers.poller.watch(tcp, a)
	if err != nil {
		return false
	}
	a.watch, a.ctx = watch, context.Background()
	// The server's own read will be failed, and it takes that for the end of the
	// connection: the contexts of further requests would be canceled.
	a.response.w.Header().Set("Connection", "close")
	return true
}

// onHangup implements watcher.
func (a *attached) onHangup() {
	a.clientGone.Store(true)
	a.wake(true)
}

// onWritable implements watcher. It does nothing: writes to the response block.
func (a *attached) onWritable() {}

// The states of an attached stream.
const (
	idle    = iota // no goroutine writes it
	waiting        // it is to be written when its turn in the crowd comes
	busy           // a goroutine writes it, or is about to
	again          // a goroutine writes it, and must look for news once more
	ended          // the stream has ended
)

// wake has the stream written, by a worker if it is idle: at once, or with a crowd
// when its turn comes. It is safe for concurrent use and does not block.
func (a *attached) wake(crowd bool) {
	workers := a.session.server.workers // Wait waits for them
	for {
		switch state := a.state.Load(); {
		case state == idle && a.h2 != nil:
			if a.state.CompareAndSwap(idle, busy) {
				a.h2.add(a, crowd)
				return
			}
		case state == idle && crowd:
			if a.state.CompareAndSwap(idle, waiting) {
				if !a.queued.Swap(true) {
					workers.doInCrowd((*waitingStream)(a))
				}
				return
			}
		case state == idle, state == waiting && !crowd:
			if a.state.CompareAndSwap(state, busy) {
				workers.do(a)
				return
			}
		case state == busy:
			if a.state.CompareAndSwap(busy, again) {
				if a.h2 != nil && !crowd {
					a.h2.hurry() // it may be among those that are ready
				}
				return
			}
		default:
			return
		}
	}
}

// waitingStream is an attached stream as a task of the crowd. The stream may have
// been written meanwhile, because it was woken alone.
type waitingStream attached

func (w *waitingStream) size() int { return 1 }

func (w *waitingStream) run() {
	a := (*attached)(w)
	a.queued.Store(false) // before state is read: see wake
	if a.state.CompareAndSwap(waiting, busy) {
		a.run()
	}
}

// run writes the stream until nothing is new, or it has ended. The state is busy.
func (a *attached) run() {
	s := a.session
	for {
		if reason := a.write(); reason != "" {
			a.state.Store(ended)
			if a.watch != nil {
				a.watch.stop()
			}
			if a.h2 != nil {
				s.server.h2conns.release(a.h2, s.server.ghosts.lift)
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

// startWrite starts the time limit of a write. A timer aborts a stalled write,
// which costs nothing while writes are quick. A write deadline would cost more
// than the write itself over HTTP/2, where setting it is a message to the
// goroutine that serves the connection. Without timers startWrite does set a
// deadline, and returns it.
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

// finishWrite ends the time limit of a write.
func (a *attached) finishWrite() {
	if a.noTimers {
		a.response.setWriteDeadline(time.Time{})
		return
	}
	a.writeDeadline.Store(0)
	if !a.response.aborted.Load() {
		return
	}
	a.session.mu.Lock() // wait for an abort to return
	defer a.session.mu.Unlock()
	if a.response.aborted.Swap(false) {
		a.response.setWriteDeadline(time.Time{}) // the deadline was for this write only
	}
}

// abort makes the current write fail, if there is one. The caller holds
// Session.mu.
func (a *attached) abort() {
	again := a.response.aborted.Swap(true) // before writeDeadline is read: finishWrite uses them in the opposite order
	limit := a.writeDeadline.Load()
	if limit == 0 {
		if !again { // otherwise finishWrite waits for the lock and resets it
			a.response.aborted.Store(false)
		}
		return
	}
	a.response.setWriteDeadline(time.Now())
	if a.h2 == nil || again {
		return // repeated aborts must not postpone closeStuckConn
	}
	later := a.session.server.now() + resetGrace(a.session.behavior.writeTimeout)
	if a.writeDeadline.CompareAndSwap(limit, int64(later)) {
		a.session.server.timers.wakeBy(&a.session.timer, later)
	}
}

// resetGrace is how long the client of an aborted HTTP/2 stream has to read the
// frame that resets it. The process may wait that long to exit.
func resetGrace(writeTimeout time.Duration) time.Duration {
	return min(max(writeTimeout/8, time.Second), 5*time.Second)
}

// closeStuckConn closes the HTTP/2 connection of a write that has not failed
// though it was aborted. An aborted write fails when the frame that resets its
// stream has been sent; if the client reads nothing at all that never happens,
// and all streams of the connection are stuck.
func (a *attached) closeStuckConn() {
	s := a.session
	s.mu.Lock()
	limit := instant(a.writeDeadline.Load())
	stuck := !s.ended && a.response.aborted.Load() && limit != 0 && s.server.now() >= limit
	s.mu.Unlock()
	if stuck {
		a.h2.close()
	}
}

// onTimer does the work of Session.onTimer.
func (a *attached) onTimer(now instant) instant {
	if limit := instant(a.writeDeadline.Load()); limit != 0 {
		if now < limit {
			return limit
		}
		end := a.session.Abort // on a goroutine: it may wait for a lock
		if a.h2 != nil && a.response.aborted.Load() {
			end = a.closeStuckConn
		}
		a.session.server.timers.running.Go(end)
		return never
	}
	if due := instant(a.due.Load()); now < due {
		return due
	}
	a.wake(true)
	return never
}

// maxPiece bounds a single write, and so what a client must take within the
// write timeout: one that reads a large event slowly is not stalled.
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

// write writes all that is new, with one flush for each batch. It returns why
// the stream has ended, or "" if it goes on.
func (a *attached) write() (reason Reason) {
	s := a.session
	batch := s.server.batches.Get().(*broker.Batch)
	defer func() {
		if p := recover(); p != nil {
			a.panicked, reason = p, ReasonError
			return
		}
		s.server.batches.Put(batch)
	}()
	for !a.clientGone.Load() && a.ctx.Err() == nil {
		frames, todo := s.next(batch, s.server.now())
		switch todo {
		case stepAgain:
			continue
		case stepWait:
			return ""
		case stepEnd:
			if s.cuts() {
				a.panicked = http.ErrAbortHandler
			}
			return s.state.endedFor
		}
		reason := a.send(frames, batch.Bytes)
		switch {
		case reason == "":
			n := len(frames) + len(batch.Bytes)
			s.state.size += int64(n)
			s.figures.bytes.Add(uint64(n))
			s.written(s.server.now())
		case s.state.endedFor != "":
			return s.state.endedFor // the stream was ending anyway
		default:
			return reason
		}
	}
	return ReasonClient
}
