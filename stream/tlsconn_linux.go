package stream

import (
	"crypto/tls"
	"errors"

	"github.com/evstream/caddy-evstream/internal/parked"
)

// tlsConn is a rawConn: a TLS connection, which stays as package tls has it.
type tlsConn struct {
	conn    *parked.Conn
	poller  *epoll
	watcher watcher
	number  int32
}

// openTLS implements poller.
func (p *epoll) openTLS(conn *tls.Conn) (rawConn, error) {
	c := p.parkedGroup().Conn(conn)
	if c == nil {
		return nil, errors.ErrUnsupported
	}
	return &tlsConn{conn: c, poller: p}, nil
}

// parkedGroup returns the group of the TLS connections, which is made for the first one.
func (p *epoll) parkedGroup() *parked.Group {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked == nil {
		p.parked = parked.NewGroup()
	}
	return p.parked
}

// discard implements rawConn.
func (*tlsConn) discard() {}

// watch implements rawConn.
func (c *tlsConn) watch(w watcher) {
	c.watcher = w
	limitUnsent(c.conn.FD())
	c.conn.Watch(parkedWatcher{w})
	if err := c.poller.add(int32(c.conn.FD()), c, &c.number); err != nil {
		w.onHangup()
	}
}

// parkedWatcher is a watcher as package parked tells it.
type parkedWatcher struct{ watcher }

// OnWritable implements parked.Watcher.
func (w parkedWatcher) OnWritable() { w.onWritable() }

// OnHangup implements parked.Watcher.
func (w parkedWatcher) OnHangup() { w.onHangup() }

// onReadable implements inputWatcher.
func (c *tlsConn) onReadable() { c.conn.Readable() }

// onWritable implements watcher.
func (c *tlsConn) onWritable() { c.conn.Writable() }

// onHangup implements watcher.
func (c *tlsConn) onHangup() { c.watcher.onHangup() }

// write implements rawConn.
func (c *tlsConn) write(ch *chunk) (int, error) {
	n, err := c.conn.Write(ch.pieces[:]...)
	if errors.Is(err, parked.ErrFull) {
		return n, errFull
	}
	return n, err
}

// close implements rawConn.
func (c *tlsConn) close(hard bool) {
	// The descriptor is closed later if the connection is being read: nobody may be told
	// of it then.
	c.poller.remove(int32(c.conn.FD()), c.number, true)
	c.conn.Close(hard)
}
