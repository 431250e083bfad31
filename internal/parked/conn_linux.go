package parked

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// ErrFull is the error of a write to a connection that takes no more bytes for now.
var ErrFull = errors.New("the send buffer is full")

// A Watcher is told what becomes of a connection. Its methods do not block.
type Watcher interface {
	OnWritable() // Write had returned ErrFull, and may write again
	OnHangup()   // the client has closed the connection, or has broken the rules of TLS
}

// Conn is a TLS connection whose handshake is over. One goroutine at a time may call
// Write and Close; the other methods are safe for concurrent use. None blocks.
type Conn struct {
	group   *Group
	conn    *tls.Conn
	fd      int
	watcher Watcher

	queued  atomic.Bool  // in group.unread, or about to be
	delayed atomic.Bool  // it is to be read when it is writable again
	refused atomic.Bool  // a write has found mu locked
	ending  atomic.Int32 // what Close has asked for

	mu     sync.Mutex // guards what follows, and whoever reads or writes holds it
	turns  int        // how often it may be read still
	closed bool
}

// The values of Conn.ending.
const (
	endSoft = iota + 1
	endHard
)

// Conn returns conn as a Conn of g, or nil if that is not possible: if it is not over
// TCP, or the system does not tell of its buffers. It does nothing yet: conn belongs to
// the Conn from Watch on.
func (g *Group) Conn(conn *tls.Conn) *Conn {
	tcp, ok := conn.NetConn().(*net.TCPConn)
	if !ok {
		return nil
	}
	fd, ok := tcpsock.FD(tcp)
	if !ok {
		return nil
	}
	return &Conn{group: g, conn: conn, fd: fd, turns: maxTurns}
}

// FD returns the file descriptor of the socket, which is open until Close is called.
func (c *Conn) FD() int { return c.fd }

// Watch has w told what becomes of the connection from now on. It is called once, before
// any other method.
func (c *Conn) Watch(w Watcher) {
	c.watcher = w
	c.Readable() // there may be records that were read from the socket, and not from conn
}

// Write writes as much of the pieces as the connection takes, as one TLS record if that
// is possible, and returns how many bytes that is. After ErrFull OnWritable is called
// when it takes more, if Writable is called when the socket does. Any other error means
// that the connection is broken.
func (c *Conn) Write(pieces ...[]byte) (int, error) {
	if !c.mu.TryLock() {
		c.refused.Store(true)
		if !c.mu.TryLock() {
			return 0, ErrFull // whoever has locked it looks at refused afterwards
		}
	}
	defer c.mu.Unlock()
	room := tcpsock.Room(c.fd)
	if room == 0 {
		return 0, ErrFull
	}
	w := c.group.writers.Get().(*writer)
	defer c.group.writers.Put(w)
	return w.write(c.conn, pieces, room)
}

// Writable is to be called when the socket is writable again.
func (c *Conn) Writable() {
	if c.delayed.Swap(false) {
		c.Readable()
	}
	c.watcher.OnWritable()
}

// Close closes the connection. If hard is set, bytes that were written but not sent yet
// are thrown away; otherwise the system still sends them, and a close_notify after them
// if there is room for it. The watcher may be told of what was before.
func (c *Conn) Close(hard bool) {
	ending := int32(endSoft)
	if hard {
		ending = endHard
	}
	c.ending.Store(ending)
	c.closeIfAsked()
}

// closeIfAsked closes the connection if Close was called, unless somebody reads it, who
// then does it.
func (c *Conn) closeIfAsked() {
	ending := c.ending.Load()
	if ending == 0 || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	tcp := c.conn.NetConn().(*net.TCPConn)
	switch {
	case ending == endHard:
		_ = tcp.SetLinger(0)
	case tcpsock.Room(c.fd) > 0:
		_ = c.conn.CloseWrite() // sends a close_notify
		fallthrough
	default:
		tcpsock.DiscardInput(c.fd)
	}
	_ = tcp.Close()
}
