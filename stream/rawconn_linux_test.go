package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
)

// What a connection is given comes as it is, be it copied to be sent or not, and however
// much of it the system takes at a time.
func TestTheBytesThatAConnectionSends(t *testing.T) {
	client, server := tcpPair(t)
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	conn, err := p.open(server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.discard()
	for _, size := range []int{1, 100, maxJoined - 1, maxJoined, maxJoined + 1, 256 << 10} {
		events := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		var c chunk
		c.set([]byte(":\n"), events, true)
		want := slices.Concat(c.pieces[:]...)
		got := make(chan []byte, 1)
		go func() {
			b := make([]byte, len(want))
			n, _ := io.ReadFull(client, b)
			got <- b[:n]
		}()
		for c.left() > 0 {
			n, err := conn.write(&c)
			if err != nil && !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			c.written(n)
		}
		if !bytes.Equal(<-got, want) {
			t.Errorf("of %d bytes others come", size)
		}
	}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}
