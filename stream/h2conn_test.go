package stream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// countingListener counts what is written to its connections.
type countingListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// connected starts a site over HTTP/2 whose streams know their connection.
// options gives the Options of a request; change changes the site before it
// starts.
func connected(t *testing.T, options func(*http.Request) Options, change func(*httptest.Server)) (site *httptest.Server, b *broker.Broker, server *Server, sessions chan *Session) {
	t.Helper()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	server, sessions = NewServer(b), make(chan *Session, 100)
	site = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := server.Session(options(r))
		if err != nil {
			t.Error(err)
			return
		}
		sessions <- s
		if err := s.Begin(w, r, ConnOf(r)); err != nil {
			t.Error(err)
			return
		}
		s.Wait()
	}))
	change(site)
	site.EnableHTTP2 = true
	site.Config.ConnContext = ConnContext
	site.StartTLS()
	t.Cleanup(func() {
		site.Close()
		server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return site, b, server, sessions
}

// Events that are new for several streams of one HTTP/2 connection are sent
// together.
func TestStreamsOfAConnectionShareItsWrites(t *testing.T) {
	var writes atomic.Int64
	site, b, server, _ := connected(t, func(*http.Request) Options {
		return Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
	}, func(site *httptest.Server) { site.Listener = countingListener{site.Listener, &writes} })
	client := site.Client()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()

	const streams, events = 100, 50
	var readers [streams]*bufio.Reader
	read := func(r *bufio.Reader, until string) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, until) {
				return
			}
		}
	}
	for i := range readers {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, site.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatal(resp.Proto)
		}
		readers[i] = bufio.NewReader(resp.Body)
		read(readers[i], "data: ")
	}
	if n := len(server.h2conns.all); n != 1 {
		t.Errorf("the streams have %d connections", n)
	}
	before := writes.Load()
	for range events {
		(&served{broker: b}).publish(t, "a", "1")
		for _, r := range readers {
			read(r, "data: 1\n")
		}
	}
	// 2 to 8 writes an event; 30 to 80 if streams are written one by one. The race
	// detector shuffles the scheduler, and makes them few in any case.
	if n := writes.Load() - before; n > streams*events/4 {
		t.Errorf("%d events for %d streams took %d writes", events, streams, n)
	}
	leave()
	for _, r := range readers {
		_, _ = io.Copy(io.Discard, r)
	}
}
