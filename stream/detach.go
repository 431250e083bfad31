package stream

import (
	"net"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Detach begins the stream on w and takes the connection from the HTTP server,
// so that the handler can return while the stream goes on: what the server and
// its handlers keep for a request is let go. It reports false, and has done
// nothing, where that cannot be; Serve is for these. The error is that of
// Serve.
//
// It can be done for HTTP/1.1 in the clear, on Linux, if nothing wraps the
// connection and the process may have one file descriptor more. conn is what the
// server reads from, which only its owner knows: see
// net/http.Server.ConnContext. The header and the first frame go out through w;
// whatever wraps w sees nothing after them.
//
// The server does not know of the stream any more: its Shutdown waits for
// Close of this package's Server, or for Options.OnEnd, only if its owner does.
func (s *Session) Detach(w http.ResponseWriter, r *http.Request, conn net.Conn) (bool, error) {
	tcp, plain := conn.(*net.TCPConn)
	server, able := innermost(w).(http.Hijacker)
	if !plain || !able || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || !s.server.writers.startPoller() {
		return false, nil
	}
	// First, while it can still be served otherwise: it takes a descriptor.
	raw, err := s.server.writers.poller.open(tcp)
	if err != nil {
		return false, nil
	}
	adopted := false
	defer func() {
		if !adopted {
			raw.discard()
		}
	}()
	// Without this the body would be chunked, which the server's own writer
	// does. The stream ends with its connection instead.
	w.Header().Set("Transfer-Encoding", "identity")
	w.Header().Set("Connection", "close")
	if greeted, err := s.writeOpening(newResponse(w)); !greeted {
		w.Header().Del("Transfer-Encoding") // of an answer that may still come
		return true, err
	}
	taken, _, err := server.Hijack()
	if err != nil || taken != net.Conn(tcp) {
		if err == nil {
			_ = taken.Close() // it is not what its owner said it was
		}
		s.end(ReasonError)
		return true, nil
	}
	_ = tcp.Close() // nobody needs any more what package net keeps for it
	adopted = true
	s.server.writers.adopt(s, raw)
	return true, nil
}

// greet begins the stream and writes what it begins with. Where it reports
// false the stream has ended.
func (s *Session) writeOpening(c *response) (bool, error) {
	if err := s.startServing(); err != nil {
		return false, err
	}
	defer func() {
		if p := recover(); p != nil {
			s.end(ReasonError)
			panic(p) // what wraps the response writer did
		}
	}()
	frames, _ := s.next(new(broker.Batch), s.server.now())
	until := time.Now().Add(s.behavior.writeTimeout) // the connection is taken then, or closed
	if reason := c.write(frames, nil, until); reason != "" {
		s.end(reason)
		return false, nil
	}
	s.state.size += int64(len(frames))
	s.written(s.server.now())
	return true, nil
}
