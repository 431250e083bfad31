package h2front

import (
	"crypto/tls"
	"net"
	"slices"
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
	conn    net.Conn
	fd      int // of its socket, or -1: see hasRoom
	options Options

	in  input
	out output

	alone atomic.Bool // there is no server, and the connection is open: see wait

	mu      sync.Mutex       // guards what follows; taken after the locks of in and out
	room    *sync.Cond       // of mu: window has grown, or the connection is broken; nil if nobody has waited for that
	known   map[uint32]*peer // streams of the server that are open; nil if none may be taken any more
	taken   []*Stream        // streams of which the marker was seen, and that are not over
	awaited []*Stream        // of which the marker was not seen yet
	lastEnd time.Time        // when the last one of taken was over
	control []byte           // frames of our own that wait to be written: of each Stream at most one with data
	queued  []*Stream        // of which control has data
	late    *time.Timer      // ends the connection if control is not written in time; nil if none waits
	limit   time.Duration    // how long a write may be stalled

	initial  int64 // the client's SETTINGS_INITIAL_WINDOW_SIZE, as it was acknowledged
	raised   int64 // what it will be when it is acknowledged; 0: nothing waits for that
	window   int64 // what may be sent on the connection
	debt     int64 // how much more the server believes that it may send
	most     int64 // the highest window
	credit   int64 // what the client may send on the connection
	excess   int64 // how much of that the server does not know of
	highest  uint32
	unsaid   int           // frames of the client that the server has not answered, and will
	unheard  int           // settings of the server that the client has not acknowledged
	leaving  bool          // the client was sent a GOAWAY without an error
	doomed   bool          // the client was sent a GOAWAY with an error: the server ends the connection soon
	shutting bool          // Leave was called
	parked   bool          // the server has gone to come again
	primed   chan struct{} // is closed when a new server has answered all of out.answers; nil if no more waits for that
	broken   bool          // nothing can be read or written any more

	idle     bool        // the server has no open stream
	idleEnd  *time.Timer // nil while there is a stream, and without an IdleTimeout
	over     bool        // the connection was idle for too long
	ending   bool        // a read was interrupted for the connection to end
	parkEnd  *time.Timer // runs while all streams that are open are taken
	parking  bool        // a read was interrupted for the server to go
	handlers int         // how many run, also of streams that are over
	tries    int         // how often it could not go since it was told to be idle or not
	returns  int         // how often in a row it came again within Options.Rest
	parkedAt time.Time   // when it has gone last
}

// Options are how a Conn is to be. 0 is never.
type Options struct {
	// IdleTimeout is how long a connection is kept without a stream of either kind.
	IdleTimeout time.Duration
	// ParkAfter is how long a server is kept on a connection of which all open streams are
	// taken.
	ParkAfter time.Duration
	// Rest is how long a server must have been gone to be worth it. Each time that it comes
	// again earlier the next one is kept twice as long, until one was gone for that long.
	Rest time.Duration
}

// peer is a stream that the server has.
type peer struct {
	window int64 // what it may send, beyond initial
	done   bool  // the client has sent all of its request
}

// New returns a Conn around conn, of which nothing was read or written yet. The
// servers that get it must not have an idle timeout of their own, and must tell by SetIdle
// when they have no streams.
func New(conn net.Conn, options Options) *Conn {
	c := &Conn{
		conn: conn, fd: descriptor(conn), options: options, limit: defaultLimit,
		in:      input{preface: len(preface)},
		known:   make(map[uint32]*peer),
		initial: defaultWindow, window: defaultWindow, most: defaultWindow, credit: defaultWindow,
	}
	if options.ParkAfter > 0 {
		c.in.table = newTable()
	}
	return c
}

// Serve has serve run an HTTP/2 server on the connection, which it is to be given, until
// that returns. If there are streams of the client's then, they go on, and serve is called
// again when the client has more requests. The caller closes the connection afterwards.
func (c *Conn) Serve(serve func(net.Conn)) {
	for serving := true; serving; serving = c.wait() {
		serve(c.forServer())
	}
}

// tlsConn is a Conn over TLS, of which the server takes the state.
type tlsConn struct {
	*Conn
	state interface{ ConnectionState() tls.ConnectionState }
}

func (c tlsConn) ConnectionState() tls.ConnectionState { return c.state.ConnectionState() }

// forServer returns the Conn as it is to be given to an http2.Server, with the method
// ConnectionState if the connection has it.
func (c *Conn) forServer() net.Conn {
	if state, ok := c.conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return tlsConn{c, state}
	}
	return c
}

// Of returns the Conn of what a server was given by Conn.Serve, or nil.
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
// in good order, the streams that were taken go on. So they do if it has gone because it read
// the end of a connection that is parked, or was idle for too long.
func (c *Conn) Close() error {
	if c.alone.Load() {
		return nil
	}
	defer c.isPrimed() // it is to read that it goes, and nothing of the client's
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
		for _, s := range slices.Clone(c.taken) {
			if !s.open {
				s.finish(ending{code: codeInternal})
				c.remove(s)
				left = append(left, s)
			}
		}
	}
	alone := whole && c.leaving && !c.broken && (len(c.taken) > 0 || time.Since(c.lastEnd) < lingers)
	if alone {
		c.alone.Store(true)
	}
	c.mu.Unlock()
	for _, s := range left {
		s.hangup()
	}
	c.release(true)
	if alone {
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
	ended := append(c.awaited, c.taken...)
	for _, s := range ended {
		s.ended = true
		s.stopWaiting()
	}
	c.taken, c.awaited, c.queued, c.known, c.control = nil, nil, nil, nil, nil
	c.grown()
	for _, t := range []*time.Timer{c.late, c.idleEnd, c.parkEnd} {
		if t != nil {
			t.Stop()
		}
	}
	c.mu.Unlock()
	for _, s := range ended {
		s.hangup()
	}
}

// grown wakes the server's write. The caller holds c.mu.
func (c *Conn) grown() {
	if c.room != nil {
		c.room.Broadcast()
	}
}

// stream returns the stream that was taken and has this id, or nil. The caller holds c.mu.
func (c *Conn) stream(id uint32) *Stream {
	for _, s := range c.taken {
		if s.id == id {
			return s
		}
	}
	return nil
}

// remove removes a stream that was taken and is over. The caller holds c.mu.
func (c *Conn) remove(s *Stream) {
	if i := slices.Index(c.taken, s); i >= 0 {
		c.taken = slices.Delete(c.taken, i, i+1)
	}
	if len(c.taken) > 0 {
		return
	}
	c.lastEnd = time.Now()
	if c.alone.Load() && c.leaving {
		_ = c.conn.SetReadDeadline(past) // there is nothing to wait for
	}
	c.watch()
}
