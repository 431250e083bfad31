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

// Serve writes the stream to w until it ends, and returns then: Begin and
// Wait.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := s.Begin(w, r, nil); err != nil {
		return err
	}
	s.Wait()
	return nil
}

// Begin writes the header and what there is to say now, and returns. From then
// on w is the stream's, and needs no lock, until Wait returns, which the handler
// must call. The error is not nil only if nothing was written.
//
// The stream begins with a comment and an event "evstream.open", so that every
// client holds a cursor from the start. Where values come first, it gets that
// once it has them. Quiet times are filled with heartbeats.
//
// conn is the connection that the server reads from, as for Detach, or nil.
// Over HTTP/1.1 on Linux the server is relieved then of waiting for the client
// to leave, which costs it a goroutine: the request's context ends, and the
// connection carries no other request. Over HTTP/2 the streams of a connection
// are written together.
func (s *Session) Begin(w http.ResponseWriter, r *http.Request, conn net.Conn) error {
	if err := s.claim(); err != nil {
		return err
	}
	a := &attached{session: s, ctx: r.Context(), late: !s.server.wheel.join()}
	a.conn.w = w
	a.over.Add(1)
	a.state.Store(busy) // whoever wakes it now does not begin to write
	s.attached.Store(a)
	a.conn.alone = a.relieve(r, conn)
	if r.ProtoMajor == 2 {
		a.lane = s.server.lanes.join(conn, &s.server.hands)
	}
	a.run()
	return nil
}

// Wait waits for the end of a stream that Begin began. It panics if what wraps
// the response writer did.
func (s *Session) Wait() {
	a := s.attached.Load()
	if a.watched == nil {
		defer context.AfterFunc(a.ctx, a.Wake)()
	}
	a.over.Wait()
	if a.panicked != nil {
		panic(a.panicked)
	}
}

// attached is a stream whose handler waits for it to end. It has a goroutine
// that writes it only while there is something to write: its stack, which is
// larger than all else that a stream needs, would be kept for as long.
type attached struct {
	session  *Session
	conn     conn
	ctx      context.Context // of the request: it ends when the client has left
	watched  watched         // tells when the client has left, where ctx does not
	left     atomic.Bool     // the client has
	state    atomic.Uint32
	over     sync.WaitGroup // until the stream has ended, and w is the handler's again
	lane     *lane          // of its connection; nil over HTTP/1
	panicked any
	late     bool // its server is closed, and the wheel does not turn

	limit atomic.Int64 // when what is being written has taken too long; 0: nothing is
	due   atomic.Int64 // when the stream has something to say by itself
}

// relieve has the system tell when the client leaves, in place of the server.
func (a *attached) relieve(r *http.Request, conn net.Conn) bool {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	crew := a.session.server.crew
	if !ok || r.ProtoMajor != 1 || !crew.able() {
		return false
	}
	watched, err := crew.poller.watch(tcp, a)
	if err != nil {
		return false
	}
	a.watched, a.ctx = watched, context.Background()
	// What the server learns from a read that fails, it does not forget.
	a.conn.w.Header().Set("Connection", "close")
	return true
}

// hangup says that the client has left.
func (a *attached) hangup() {
	a.left.Store(true)
	a.Wake()
}

// room is of no interest: the writes of an attached stream wait for it.
func (a *attached) room() {}

// The states of an attached stream.
const (
	idle  = iota // nobody writes
	busy         // somebody writes
	again        // somebody writes, and is to look again
	ended        // it is over
)

// Wake has the stream written, by a goroutine of its own if there is none yet.
func (a *attached) Wake() {
	for {
		switch state := a.state.Load(); state {
		case idle:
			if a.state.CompareAndSwap(idle, busy) {
				if a.lane != nil {
					a.lane.add(a)
				} else {
					a.session.server.hands.do(a) // Wait waits for it
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
			if a.watched != nil {
				a.watched.forget()
			}
			if a.lane != nil {
				s.server.lanes.leave(a.lane)
			}
			s.end(reason)
			if !a.late {
				s.server.wheel.leave()
			}
			a.over.Done()
			return
		}
		due := s.due()
		a.due.Store(int64(due))
		s.server.wheel.wake(&s.tooth, due)
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
func (a *attached) begin(now instant) (until time.Time) {
	limit := now + a.session.manner.writeTimeout
	if a.late {
		until = a.session.server.began.Add(limit)
		a.conn.limit(until)
		return until
	}
	a.limit.Store(int64(limit))
	a.session.server.wheel.wake(&a.session.tooth, limit)
	return time.Time{}
}

// finish says that the write has finished.
func (a *attached) finish() {
	if a.late {
		a.conn.limit(time.Time{})
		return
	}
	a.limit.Store(0)
	if !a.conn.aborted.Load() {
		return
	}
	a.session.mu.Lock() // an abort is over then
	defer a.session.mu.Unlock()
	if a.conn.aborted.Swap(false) {
		a.conn.limit(time.Time{}) // it would fall on the next write
	}
}

// abort fails the write that goes on, if one does. Session.mu is held.
func (a *attached) abort() {
	again := a.conn.aborted.Swap(true) // before limit is read: finish does it the other way round
	limit := a.limit.Load()
	if limit == 0 {
		if !again { // else finish waits for the lock, to end that abort
			a.conn.aborted.Store(false)
		}
		return
	}
	a.conn.limit(time.Now())
	if a.lane == nil || again {
		return // whoever asks again and again would put sever off for as long
	}
	later := a.session.server.now() + resetTime(a.session.manner.writeTimeout)
	if a.limit.CompareAndSwap(limit, int64(later)) {
		a.session.server.wheel.wake(&a.session.tooth, later)
	}
}

// resetTime is how long the client of an aborted HTTP/2 stream has to take the
// news. An exit may wait for it.
func resetTime(writeTimeout time.Duration) time.Duration {
	return min(max(writeTimeout/8, time.Second), 5*time.Second)
}

// sever closes the connection of a write that was aborted in vain. Over HTTP/2
// that ends with a frame that tells the client; of one who reads nothing at all
// the connection is stuck, with all its streams.
func (a *attached) sever() {
	s := a.session
	s.mu.Lock()
	limit := instant(a.limit.Load())
	stuck := !s.ended && a.conn.aborted.Load() && limit != 0 && s.server.now() >= limit
	s.mu.Unlock()
	if stuck {
		_ = a.lane.conn.Close()
	}
}

// ring implements Session.ring.
func (a *attached) ring(now instant) instant {
	if limit := instant(a.limit.Load()); limit != 0 {
		if now < limit {
			return limit
		}
		end := a.session.Abort // which may wait for a lock
		if a.lane != nil && a.conn.aborted.Load() {
			end = a.sever
		}
		a.session.server.wheel.done.Go(end)
		return never
	}
	if due := instant(a.due.Load()); now < due {
		return due
	}
	a.Wake()
	return never
}

// maxPiece bounds what is written at a time: a client that takes a large event
// slowly, but takes it, is not stalled.
const maxPiece = 128 << 10

// send writes frames and events, a piece at a time.
func (a *attached) send(frames, events []byte) (reason Reason) {
	for {
		piece := events[:min(len(events), maxPiece)]
		until := a.begin(a.session.server.now())
		reason = a.conn.write(frames, piece, until)
		a.finish()
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
	for !a.left.Load() && a.ctx.Err() == nil {
		frames, todo := s.next(batch, s.server.now())
		switch todo {
		case look:
			continue
		case wait:
			return ""
		case part:
			return s.script.parted
		}
		reason := a.send(frames, batch.Bytes)
		switch {
		case reason == "":
			s.script.size += int64(len(frames) + len(batch.Bytes))
			s.written(s.server.now())
		case s.script.parted != "":
			return s.script.parted // nobody is left to act on it
		default:
			return reason
		}
	}
	return ReasonClient
}
