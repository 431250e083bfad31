package main

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// cutter is a network in front of a server that can be cut.
type cutter struct {
	address string // localhost:port

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", free(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{address: l.Addr().String(), conns: map[net.Conn]bool{}}
	if _, port, err := net.SplitHostPort(c.address); err == nil {
		c.address = "localhost:" + port
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.carry(conn, to) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.cut()
		all.Wait()
	})
	return c
}

// carry copies both ways until one side ends.
func (c *cutter) carry(conn net.Conn, to string) {
	defer conn.Close()
	if !c.hold(conn) {
		return
	}
	defer c.release(conn)
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	if !c.hold(server) {
		return
	}
	defer c.release(server)
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	})
	_, _ = io.Copy(conn, server)
	_ = conn.Close()
	up.Wait()
}

func (c *cutter) hold(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.down {
		c.conns[conn] = true
	}
	return !c.down
}

func (c *cutter) release(conn net.Conn) {
	c.mu.Lock()
	delete(c.conns, conn)
	c.mu.Unlock()
}

// cut ends all connections without a word, and lets none through until mend.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

func (c *cutter) mend() {
	c.mu.Lock()
	c.down = false
	c.mu.Unlock()
}
