package stream

import (
	"errors"
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/h2front"
)

// frontConn is a rawConn: one stream of an HTTP/2 connection, which a h2front.Conn has
// taken from the server.
type frontConn struct {
	stream *h2front.Stream
	server *Server
	h2     *h2conn // bounds how long the client can have vanished
	good   bool    // what was written last ends the body
}

// maxOpening is the longest prologue of a stream that is detached over HTTP/2.
const maxOpening = 8 << 10

// detachFront does the work of Detach for a stream over HTTP/2.
func (s *Session) detachFront(w http.ResponseWriter, r *http.Request, front *h2front.Conn) (detached bool, err error) {
	server := innermost(w)
	// A request with a body, and an answer with trailers, are not over when the handler is.
	if _, plain := server.(http.Pusher); !plain || r.ProtoMajor != 2 || r.ContentLength != 0 || hasTrailers(server.Header()) || len(s.prologue) > maxOpening {
		return false, nil
	}
	if !s.server.writers.reserve() {
		return false, nil
	}
	taken := front.Take(s.behavior.writeTimeout)
	if taken == nil {
		s.server.writers.release()
		return false, nil
	}
	adopted := false
	defer func() {
		if !adopted {
			taken.End(false)
			s.server.writers.release()
		}
	}()
	if opened, err := s.writeOpening(newResponse(w)); !opened {
		return true, err
	}
	if _, err = server.Write(taken.Marker()); err == nil { //nolint:gosec // made here
		err = http.NewResponseController(server).Flush()
	}
	if err != nil { // nobody else tells that the client has gone
		s.end(ReasonClient)
		return true, nil
	}
	h2 := s.server.h2conns.acquire(front, s.server.workers, s.behavior.writeTimeout, s.server.ghosts.bound)
	adopted = true
	s.server.writers.adopt(s, &frontConn{stream: taken, server: s.server, h2: h2})
	return true, nil
}

// hasTrailers reports whether an answer with this header has trailers.
func hasTrailers(h http.Header) bool {
	for name := range h {
		if name == "Trailer" || strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// discard implements rawConn.
func (c *frontConn) discard() { c.close(true) }

// watch implements rawConn.
func (c *frontConn) watch(w watcher) { c.stream.Watch(frontWatcher{w}) }

// frontWatcher is a watcher as h2front tells it.
type frontWatcher struct{ watcher }

// OnWritable implements h2front.Watcher.
func (w frontWatcher) OnWritable() { w.onWritable() }

// OnHangup implements h2front.Watcher.
func (w frontWatcher) OnHangup() { w.onHangup() }

// write implements rawConn. What ch has beside the body is stripped.
func (c *frontConn) write(ch *chunk) (int, error) {
	c.good = ch.last
	n, err := c.stream.Write(ch.pieces[1], ch.pieces[2], ch.last)
	if errors.Is(err, h2front.ErrFull) {
		return n, errFull
	}
	return n, err
}

// close implements rawConn: it ends the stream, and not the connection.
func (c *frontConn) close(hard bool) {
	c.stream.End(c.good && !hard)
	c.server.h2conns.release(c.h2, c.server.ghosts.lift)
}
