package stream

import (
	"context"
	"net"
	"net/http"
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
	if err := s.startServing(); err != nil {
		return err
	}
	a := &attached{session: s, ctx: r.Context(), noTimers: !s.server.timers.acquire()}
	a.response.w = w
	a.done.Add(1)
	a.state.Store(busy) // whoever wakes it now does not begin to write
	s.attached.Store(a)
	a.response.noBackgroundRead = a.watchConn(r, conn)
	if r.ProtoMajor == 2 {
		a.h2 = s.server.h2conns.acquire(conn, &s.server.workers)
	}
	a.run()
	return nil
}

// Wait waits for the end of a stream that Begin began. It panics if what wraps
// the response writer did.
func (s *Session) Wait() {
	a := s.attached.Load()
	if a.watch == nil {
		defer context.AfterFunc(a.ctx, a.wake)()
	}
	a.done.Wait()
	if a.panicked != nil {
		panic(a.panicked)
	}
}
