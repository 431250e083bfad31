package stream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// takenLate is a writer whose connection is taken after something has happened.
type takenLate struct {
	*httptest.ResponseRecorder
	conn   net.Conn
	before func()
}

// Hijack implements http.Hijacker.
func (w takenLate) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.before()
	return w.conn, nil, nil
}

// A server that closes while a connection is on its way to a writer waits for it, and
// ends its stream in good order: the client must not take it for a fault.
func TestAStreamThatIsOnItsWayWhenTheServerClosesEndsInGoodOrder(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}

	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	server := NewServer(b)
	s, err := server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	w := takenLate{httptest.NewRecorder(), conn, func() {
		s.Close(ReasonReload)
		go func() {
			server.Close()
			close(closed)
		}()
		for closing := false; !closing; runtime.Gosched() {
			server.writers.mu.Lock()
			closing = server.writers.closing
			server.writers.mu.Unlock()
		}
	}}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if detached, err := s.Detach(w, r, conn); !detached || err != nil {
		t.Fatal(detached, err)
	}
	body, err := io.ReadAll(client)
	if err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`^[a-f0-9]+\r\nretry: \d+\n\r\n0\r\n\r\n$`).Match(body) {
		t.Errorf("the client reads %q", body)
	}
	<-closed
	<-s.Done()
	if s.Reason() != ReasonReload {
		t.Errorf("ended for %q", s.Reason())
	}
}
