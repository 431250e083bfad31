package stream

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/broker"
)

// Serve writes the stream to w until it ends, and returns then: Begin and
// Wait.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := s.Begin(w, r); err != nil {
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
// client holds a cursor from the start. Quiet times are filled with heartbeats.
func (s *Session) Begin(w http.ResponseWriter, r *http.Request) error {
	a := &attached{
		session: s, ctx: r.Context(), conn: newConn(w, r, s.manner.writeTimeout),
		over: make(chan struct{}),
	}
	if err := s.claim(a.conn.abort); err != nil {
		return err
	}
	a.state.Store(busy)
	s.attached.Store(a)
	a.run()
	return nil
}

// Wait waits for the end of a stream that Begin began. It panics if what wraps
// the response writer did.
func (s *Session) Wait() {
	a := s.attached.Load()
	select {
	case <-a.over:
	case <-a.ctx.Done():
		a.Wake()
		<-a.over
	}
	if a.panicked != nil {
		panic(a.panicked)
	}
}

// attached is a stream whose handler waits for it to end. There is a goroutine
// that writes it only while there is something to write: its stack, which is
// larger than all else that a stream needs, would be kept for as long.
type attached struct {
	session  *Session
	ctx      context.Context // of the request: it ends when the client has left
	conn     *conn
	state    atomic.Uint32
	over     chan struct{} // closed when the stream has ended, and w is the handler's again
	panicked any
}

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
				go a.run() // Wait waits for it
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
			s.end(reason)
			a.conn.relax() // a deadline would fall on the connection's next request
			close(a.over)
			return
		}
		s.server.wheel.wake(&s.tooth, s.due())
		if a.state.CompareAndSwap(busy, idle) {
			return
		}
		a.state.Store(busy)
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
	for a.ctx.Err() == nil {
		frames, todo := s.next(batch, s.server.now())
		switch todo {
		case look:
			continue
		case wait:
			return ""
		case part:
			return s.script.parted
		}
		reason := a.conn.write(frames, batch.Bytes)
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
