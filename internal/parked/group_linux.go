package parked

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// Group reads what the clients of its connections say, on one goroutine.
type Group struct {
	writers    sync.Pool     // of *writer
	answerWait time.Duration // how long the answer to a KeyUpdate may wait for a socket with room

	kick    chan struct{}
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows
	unread []*Conn    // that have input; each once
}

// NewGroup starts a Group, which runs until Close is called.
func NewGroup() *Group {
	g := &Group{answerWait: maxAnswerWait, kick: make(chan struct{}, 1), stop: make(chan struct{})}
	g.writers.New = func() any { return newWriter(maxStuck) }
	g.running.Go(g.run)
	return g
}

// Close stops reading. It is called once, when all connections are closed.
func (g *Group) Close() {
	close(g.stop)
	g.running.Wait()
}

const (
	// maxTurns bounds how often a connection is read. A client that says more has it left
	// with the system, which stops taking it, as with a connection without TLS. crypto/tls
	// ends one with 16 KeyUpdates in a row.
	maxTurns = 256
	// readWait is how long a Read may wait that has had no data of the client's.
	readWait = time.Millisecond
	// maxAnswerWait is Group.answerWait.
	maxAnswerWait = time.Second
	// inputSize is how much of a client's data is read and thrown away in one turn.
	inputSize = 4 << 10
)

// Readable is to be called when the socket has become readable. If it is because the
// client has closed it nobody need read that: the watcher may not be told.
func (c *Conn) Readable() {
	if c.queued.Swap(true) {
		return
	}
	g := c.group
	g.mu.Lock()
	g.unread = append(g.unread, c)
	first := len(g.unread) == 1
	g.mu.Unlock()
	if !first {
		return
	}
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// run reads the connections that have input, each in its turn, until g.stop is closed.
func (g *Group) run() {
	input := make([]byte, inputSize)
	var turn []*Conn
	for {
		select {
		case <-g.stop:
			return
		case <-g.kick:
		}
		g.mu.Lock()
		turn, g.unread = g.unread, turn[:0]
		g.mu.Unlock()
		for _, c := range turn {
			c.queued.Store(false)
			c.read(input)
		}
		clear(turn)
	}
}

// read reads a connection once.
func (c *Conn) read(input []byte) {
	c.mu.Lock()
	again, ended := c.readLocked(input)
	c.mu.Unlock()
	c.closeIfAsked()
	if c.refused.Swap(false) {
		c.watcher.OnWritable()
	}
	switch {
	case ended:
		c.watcher.OnHangup()
	case again:
		c.Readable()
	}
}

// readLocked reads a connection once. It reports whether there may be more, and whether
// the client has ended the connection.
func (c *Conn) readLocked(input []byte) (again, ended bool) {
	if c.closed || c.turns == 0 {
		return false, false
	}
	// crypto/tls answers a KeyUpdate by a write, which must not wait for the client.
	c.delayed.Store(true)
	if tcpsock.Room(c.fd) == 0 {
		return false, false
	}
	c.delayed.Store(false)
	c.turns--
	now := time.Now()
	until := time.Unix(1, 0) // no read of the socket; only of what crypto/tls has of it
	if tcpsock.Unread(c.fd) > 0 {
		until = now.Add(readWait)
	}
	_ = c.conn.SetReadDeadline(until)
	_ = c.conn.SetWriteDeadline(now.Add(c.group.answerWait))
	_, err := c.conn.Read(input)
	_ = c.conn.SetWriteDeadline(time.Time{})
	switch {
	case err == nil:
		return true, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tcpsock.Unread(c.fd) > 0, false // the deadline may have passed before the socket was read
	}
	return false, true
}
