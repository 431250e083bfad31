package stream

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/h2front"
)

// Detach begins the stream on w, takes the connection from the HTTP server and
// returns true. The handler can then return while the stream goes on, and the
// memory that the server and the handlers hold for a request is freed.
//
// It returns false, and has done nothing, if the stream cannot be detached; Begin
// and Serve can still serve it then. The error is ErrServed, or nil. A stream
// whose opening could not be written is true and nil, too: it has ended. If w
// panics the stream ends, and Detach panics with the same value.
//
// A stream can be detached on Linux, over HTTP/1.1 with TLS or without, if nothing wraps
// the connection and, without TLS, the process can open one more file descriptor. It can
// be, too, over HTTP/2 if conn is a h2front.Conn, which takes it from its server. conn is the
// connection of r, as ConnOf returns it; if it is another one the stream ends.
// The header and the opening are written through w; whatever wraps w sees
// nothing after them.
//
// The HTTP server does not know of the stream any more: its Shutdown and Close
// leave it alone; over HTTP/2 they wait for the connection, and end it. Server.Close
// ends the stream, and Options.OnEnd tells when it has ended.
func (s *Session) Detach(w http.ResponseWriter, r *http.Request, conn net.Conn) (detached bool, err error) {
	if front, ok := conn.(*h2front.Conn); ok {
		return s.detachFront(w, r, front)
	}
	tcp, plain := conn.(*net.TCPConn)
	secure, overTLS := conn.(*tls.Conn)
	server, hijackable := innermost(w).(http.Hijacker)
	if !hijackable || !fits(r, conn) || !s.server.writers.reserve() {
		return false, nil
	}
	adopted := false
	defer func() {
		if !adopted {
			s.server.writers.release()
		}
	}()
	// Before anything is written: it fails if there is no file descriptor left.
	var raw rawConn
	if overTLS {
		raw, err = s.server.writers.poller.openTLS(secure)
	} else {
		raw, err = s.server.writers.poller.open(tcp)
	}
	if err != nil {
		return false, nil
	}
	defer func() {
		if !adopted {
			raw.discard()
		}
	}()
	// The HTTP server chunks the opening, as it does with a body of unknown length,
	// and the writers go on with chunks of their own. The connection does not go
	// back to the server and is closed after the body. The header does not say so,
	// though RFC 9112, section 9.6 says that it should: with "Connection: close" the
	// fetch of Node.js takes a body that is cut off for a complete one. A client must
	// be prepared for a close after any response (section 9.5).
	if opened, err := s.writeOpening(newResponse(w)); !opened {
		return true, err
	}
	taken, _, err := server.Hijack()
	if err != nil || taken != conn {
		if err == nil {
			_ = taken.Close() // conn was not the connection of r
		}
		s.end(ReasonError)
		return true, nil
	}
	s.server.ghosts.bound(conn, s.behavior.writeTimeout)
	if plain {
		_ = tcp.Close() // raw has a descriptor of its own
	}
	adopted = true
	s.server.writers.adopt(s, raw)
	return true, nil
}

// WillDetach reports whether Detach of a stream of r will succeed, but for what it cannot
// know: that no file descriptor is left, or what wraps the ResponseWriter. Of streams over
// HTTP/2 it does not say so.
func (s *Server) WillDetach(r *http.Request, conn net.Conn) bool {
	return fits(r, conn) && s.writers.startPoller()
}

// fits reports whether conn is one of HTTP/1.1 that can be taken from its server.
func fits(r *http.Request, conn net.Conn) bool {
	_, plain := conn.(*net.TCPConn)
	_, overTLS := conn.(*tls.Conn)
	return (plain || overTLS) && overTLS == (r.TLS != nil) && r.ProtoMajor == 1 && r.ProtoMinor == 1
}

// writeOpening begins the stream and writes its opening to r. It reports false
// if the stream has ended; the error is ErrServed or nil.
func (s *Session) writeOpening(r *response) (bool, error) {
	if err := s.startServing(); err != nil {
		return false, err
	}
	defer func() {
		if p := recover(); p != nil {
			s.end(ReasonError)
			panic(p) // of the ResponseWriter, for the HTTP server
		}
	}()
	frames, _ := s.next(new(broker.Batch), s.server.now())
	until := time.Now().Add(s.behavior.writeTimeout) // need not be removed: nobody writes through package net after this
	if reason := r.write(frames, nil, until); reason != "" {
		s.end(reason)
		return false, nil
	}
	s.state.size += int64(len(frames))
	s.figures.bytes.Add(uint64(len(frames)))
	s.written(s.server.now())
	return true, nil
}
