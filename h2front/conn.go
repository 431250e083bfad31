package h2front

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one connection, which its client cannot exceed.
const (
	// MaxTaken is how many streams of a connection are taken at a time. Each of them is
	// written by itself, and the server shares records among those that it has kept.
	MaxTaken = 8
	// maxKnown is how many streams of the server are known at a time. With more, which no
	// server allows, none is taken from then on.
	maxKnown = 1024
	// minWindow is what a stream, and the connection, must be allowed for a stream to be taken.
	minWindow = 16 << 10
	// leastMost is what the client must have allowed on the connection at some time.
	leastMost = defaultWindow + 2*minWindow
)

// defaultLimit is how long a write may be stalled if no Stream has said otherwise.
const defaultLimit = 10 * time.Second

// Conn is the connection of one client. As a net.Conn it is for an http2.Server: its
// Read and Write are what the server reads and writes, and Close is the server's end.
// The other methods, and those of its Streams, are safe for concurrent use.
type Conn struct {
	conn net.Conn

	in  input
	out output

	room sync.Cond // of mu: window has grown, or the connection is broken

	lingers atomic.Bool // the server has gone, and streams are open: see Linger

	mu      sync.Mutex         // guards what follows; taken after the locks of in and out
	known   map[uint32]*peer   // streams of the server that are open; nil if none may be taken any more
	taken   map[uint32]*Stream // streams of which the marker was seen, and that are not over
	awaited []*Stream          // of which the marker was not seen yet
	control []byte             // frames of our own that wait to be written: of each Stream at most one with data
	queued  []*Stream          // of which control has data
	late    *time.Timer        // ends the connection if control is not written in time; nil if none waits
	limit   time.Duration      // how long a write may be stalled

	initial  int64 // the client's SETTINGS_INITIAL_WINDOW_SIZE, as it was acknowledged
	raised   int64 // what it will be when it is acknowledged; 0: nothing waits for that
	window   int64 // what may be sent on the connection
	debt     int64 // how much more the server believes that it may send
	most     int64 // the highest window
	highest  uint32
	leaving  bool // the server has sent a GOAWAY without an error
	broken   bool // nothing can be read or written any more
	idle     bool // the server has no open stream
	idleTime time.Duration
	idleEnd  *time.Timer // nil while there is a stream, and without an idleTime
	over     bool        // the connection was idle for too long: the server is to read its end
}

// peer is a stream that the server has.
type peer struct {
	window int64 // what it may send, beyond initial
	done   bool  // the client has sent all of its request
}

// New returns a Conn around conn, of which nothing was read or written yet. A Conn
// that was idle for idleTime, without a stream of either kind, is closed; 0 is never.
// The server that gets it must not have an idle timeout of its own, and must tell by
// SetIdle when it has no streams.
func New(conn net.Conn, idleTime time.Duration) *Conn {
	c := &Conn{
		conn: conn, idleTime: idleTime, limit: defaultLimit,
		in:      input{preface: prefaceSize},
		known:   make(map[uint32]*peer),
		initial: defaultWindow, window: defaultWindow, most: defaultWindow,
	}
	c.room.L = &c.mu
	return c
}

// tlsConn is a Conn over TLS, of which the server takes the state.
type tlsConn struct {
	*Conn
	state interface{ ConnectionState() tls.ConnectionState }
}

func (c tlsConn) ConnectionState() tls.ConnectionState { return c.state.ConnectionState() }

// ForServer returns the Conn as it is to be given to an http2.Server, with the method
// ConnectionState if the connection has it.
func (c *Conn) ForServer() net.Conn {
	if state, ok := c.conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return tlsConn{c, state}
	}
	return c
}

// Of returns the Conn that ForServer has returned c for, or nil.
func Of(c net.Conn) *Conn {
	switch c := c.(type) {
	case *Conn:
		return c
	case tlsConn:
		return c.Conn
	}
	return nil
}

// NetConn returns the connection that New was called with.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// Close implements net.Conn, for the server: it has gone. If it has told the client so, and
// in good order, the streams that were taken go on, and Linger serves them.
func (c *Conn) Close() error {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken || !c.lockOut() {
		c.fail()
		return c.conn.Close()
	}
	whole := !c.out.unfinished()
	c.mu.Lock()
	var left []*Stream // the server goes without having ended them
	if whole && c.leaving && !c.broken {
		for _, s := range c.taken {
			if !s.open {
				s.finish(ending{code: codeInternal})
				c.remove(s)
				left = append(left, s)
			}
		}
	}
	lingers := whole && c.leaving && !c.broken && len(c.taken) > 0
	if lingers {
		c.lingers.Store(true)
	}
	c.mu.Unlock()
	for _, s := range left {
		s.hangup()
	}
	c.release(true)
	if lingers {
		return c.conn.SetReadDeadline(past) // the server's last read
	}
	c.fail()
	return c.conn.Close()
}

// lockOut takes out.mu, or reports false if it is not given up soon: who has it may wait for
// the client, and the server's own write for Close.
func (c *Conn) lockOut() bool {
	for range 200 {
		if c.out.mu.TryLock() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// Abort closes the connection without a word, whoever uses it. It does not block.
func (c *Conn) Abort() error {
	c.fail()
	conn := c.conn
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok { // Close of TLS writes
		conn = over.NetConn()
	}
	return conn.Close()
}

// fail marks the connection as broken, and ends the streams that were taken.
func (c *Conn) fail() {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return
	}
	c.broken = true
	ended := c.awaited
	for _, s := range c.taken {
		ended = append(ended, s)
	}
	for _, s := range ended {
		s.ended = true
		s.stopWaiting()
	}
	c.taken, c.awaited, c.queued, c.known, c.control = nil, nil, nil, nil, nil
	c.room.Broadcast()
	for _, t := range []*time.Timer{c.late, c.idleEnd} {
		if t != nil {
			t.Stop()
		}
	}
	c.mu.Unlock()
	for _, s := range ended {
		s.hangup()
	}
}

// SetIdle tells whether the server has no open stream.
func (c *Conn) SetIdle(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
	c.watchIdle()
}

// watchIdle starts or stops the timer that closes an idle connection. The caller holds c.mu.
func (c *Conn) watchIdle() {
	idle := c.idle && c.idleTime > 0 && !c.broken && !c.leaving && len(c.taken)+len(c.awaited) == 0
	switch {
	case idle && c.idleEnd == nil:
		c.idleEnd = time.AfterFunc(c.idleTime, c.endIdle)
	case idle:
		c.idleEnd.Reset(c.idleTime)
	case c.idleEnd != nil:
		c.idleEnd.Stop()
		c.idleEnd = nil
	}
}

// endIdle ends a connection that was idle for too long: the client is told up to which
// stream it was served, and the server reads the end of the connection.
func (c *Conn) endIdle() {
	c.mu.Lock()
	if c.idleEnd == nil || c.broken { // stopped too late
		c.mu.Unlock()
		return
	}
	c.over = true
	c.control = appendGoAway(c.control, c.highest, codeNo)
	c.mu.Unlock()
	c.kick()
	_ = c.conn.SetReadDeadline(past)
}

// remove removes a stream that was taken and is over. The caller holds c.mu.
func (c *Conn) remove(s *Stream) {
	delete(c.taken, s.id)
	if len(c.taken) > 0 {
		return
	}
	if c.lingers.Load() {
		_ = c.conn.SetReadDeadline(past) // Linger has nothing to wait for
	}
	c.watchIdle()
}
