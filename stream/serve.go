package stream

import (
	"context"
	"net"
	"net/http"
)

// Serve writes the stream to w and returns when it has ended: when the client
// leaves, at the latest. It is Begin without a connection, then Wait. The error is
// ErrServed, and nothing was written, or nil.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := s.Begin(w, r, nil); err != nil {
		return err
	}
	s.Wait()
	return nil
}

// Begin writes the header and all that is new so far, and returns while the
// stream goes on. The handler must then call Wait before it returns. Until Wait
// has returned w belongs to the stream: nobody else may use it. The error is
// ErrServed, and nothing was written and Wait must not be called, or nil.
//
// The stream begins with a comment and an event "evstream.open", whose id is a
// cursor: every client has one from the start. If the values of channels are
// sent first, the cursor follows them. A quiet stream gets heartbeats.
//
// conn is the connection of r, as ConnOf returns it, or nil. It saves resources:
// over HTTP/1 on Linux the server's goroutine that waits for the client to leave
// ends. The context of r is then canceled early, though the stream goes on, and
// the connection carries no further request. Over HTTP/2 the streams of one
// connection are written together.
func (s *Session) Begin(w http.ResponseWriter, r *http.Request, conn net.Conn) error {
	if err := s.startServing(); err != nil {
		return err
	}
	a := &attached{session: s, ctx: r.Context(), noTimers: !s.server.timers.acquire()}
	a.response.w = w
	a.done.Add(1)
	a.state.Store(busy) // a wake-up before run starts no second writer
	a.response.noBackgroundRead = a.watchConn(r, conn)
	switch r.ProtoMajor {
	case 1:
		s.state.http10 = r.ProtoMinor == 0
		s.server.ghosts.bound(conn, s.behavior.writeTimeout)
	case 2:
		a.h2 = s.server.h2conns.acquire(conn, s.server.workers, s.behavior.writeTimeout, s.server.ghosts.bound)
	}
	s.attached.Store(a) // not before it is complete: whoever wakes it reads h2
	a.run()
	return nil
}

// Wait returns when the stream that Begin began has ended. It must be called only
// after Begin has returned nil. If the ResponseWriter panicked in a write, Wait
// panics with the same value, and with http.ErrAbortHandler if the response has to be cut, on the handler's goroutine.
func (s *Session) Wait() {
	a := s.attached.Load()
	if a.watch == nil {
		defer context.AfterFunc(a.ctx, func() { a.wake(false) })()
	}
	a.done.Wait()
	if a.panicked != nil {
		panic(a.panicked)
	}
}
