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
	"github.com/evstream/caddy-evstream/sse"
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
func connected(t testing.TB, options func(*http.Request) Options, change func(*httptest.Server)) (site *httptest.Server, b *broker.Broker, server *Server, sessions chan *Session) {
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

// shareWrites opens streams over one HTTP/2 connection and has events written to all
// of them. The result is how many writes to the connection each took.
func shareWrites(t testing.TB, streams, events int) float64 {
	t.Helper()
	var writes atomic.Int64
	site, b, server, _ := connected(t, func(*http.Request) Options {
		return Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
	}, func(site *httptest.Server) { site.Listener = countingListener{site.Listener, &writes} })
	client := site.Client()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()

	readers := make([]*bufio.Reader, streams)
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
	op := []broker.Op{{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("1")}}}
	for range events {
		if _, err := b.Publish(ctx, op); err != nil {
			t.Fatal(err)
		}
		for _, r := range readers {
			read(r, "data: 1\n")
		}
	}
	n := writes.Load() - before
	leave()
	for _, r := range readers {
		_, _ = io.Copy(io.Discard, r)
	}
	return float64(n) / float64(events)
}

// Events that are new for several streams of one HTTP/2 connection are sent
// together.
func TestStreamsOfAConnectionShareItsWrites(t *testing.T) {
	// 3 to 8 writes an event; 30 to 80 if streams are written one by one. The race
	// detector shuffles the scheduler, and makes them few in any case.
	if n := shareWrites(t, 100, 50); n > 25 {
		t.Errorf("an event for 100 streams takes %.1f writes", n)
	}
}

// BenchmarkWritesOfAConnection tells how many writes an event takes that goes to a
// hundred streams of one HTTP/2 connection: 3 to 6, and 9 to 14 without
// response.nudge. It fails above 8.
func BenchmarkWritesOfAConnection(b *testing.B) {
	var sum, rounds float64
	for b.Loop() {
		sum += shareWrites(b, 100, 200)
		rounds++
	}
	b.ReportMetric(sum/rounds, "writes/event")
	if sum/rounds > 8 {
		b.Errorf("an event for 100 streams takes %.1f writes", sum/rounds)
	}
}
