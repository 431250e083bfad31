package h2front

import (
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// late is a connection of which a server reads no more than the preface before it has written
// a GOAWAY frame.
type late struct {
	net.Conn
	read int
	shut func() // is called when the servers know of it
	gone chan struct{}
	once sync.Once
}

func (l *late) Read(p []byte) (int, error) {
	if l.read == len(preface) {
		<-l.gone
		return l.Conn.Read(p)
	}
	if l.read == 0 {
		l.shut()
	}
	n, err := l.Conn.Read(p[:min(len(p), len(preface)-l.read)])
	l.read += n
	return n, err
}

func (l *late) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	for b := p; len(b) >= headSize; b = b[headSize+parseHead(b).length:] {
		if parseHead(b).kind == frameGoAway {
			l.once.Do(func() { close(l.gone) })
		}
	}
	return n, err
}

// TestAServerLeavesBeforeItIsPrimed has a server be shut down that knows of no stream yet: the client
// is not told that none of its streams was served.
func TestAServerLeavesBeforeItIsPrimed(t *testing.T) {
	t.Parallel()
	calls := 0
	c, s, _, _ := parked(t, func(s *testServer) {
		s.wrap = func(conn net.Conn) net.Conn {
			if calls++; calls == 1 {
				return conn
			}
			return &late{Conn: conn, gone: make(chan struct{}), shut: func() { s.shutDown(t) }}
		}
	})
	c.request(3, "/plain") // comes too late, as the client is told
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeNo || f.LastStreamID != 1 {
		t.Fatalf("read %v, want GOAWAY after stream 1", f)
	}
	c.pings(1)
	s.write(t, "last", true)
	c.data(1, "last", true)
}
