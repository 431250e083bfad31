package stream

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// panickyWriter is a ResponseWriter that aborts the request by a panic, as a
// reverse proxy does.
type panickyWriter struct {
	*client
	where string
	after atomic.Int32 // calls that it lets pass
}

func (c *panickyWriter) check(where string) {
	if c.where == where && c.after.Add(-1) < 0 {
		panic(http.ErrAbortHandler)
	}
}

func (c *panickyWriter) WriteHeader(status int) {
	c.check("header")
	c.client.WriteHeader(status)
}

func (c *panickyWriter) Write(p []byte) (int, error) {
	c.check("write")
	return c.client.Write(p)
}

func (c *panickyWriter) FlushError() error {
	c.check("flush")
	return c.client.FlushError()
}

// The HTTP server handles a panic of a ResponseWriter: it must reach it on the
// goroutine on which it called the handler.
func TestAPanicOfTheWriterReachesTheHandlerAndEndsTheStream(t *testing.T) {
	serveIt := func(s *Session, w http.ResponseWriter, r *http.Request) { _ = s.Serve(w, r) }
	detachIt := func(s *Session, w http.ResponseWriter, r *http.Request) {
		_, _ = s.writeOpening(newResponse(w))
	}
	for _, tt := range []struct {
		name, where string
		after       int32
		do          func(*Session, http.ResponseWriter, *http.Request)
	}{
		{"attached, in the header", "header", 0, serveIt},
		{"attached, in the first write", "write", 0, serveIt},
		{"attached, in the first flush", "flush", 0, serveIt},
		{"attached, in a later write", "write", 1, serveIt},
		{"attached, in a later flush", "flush", 1, serveIt},
		{"detached, in the header", "header", 0, detachIt},
		{"detached, in the first write", "write", 0, detachIt},
		{"detached, in the first flush", "flush", 0, detachIt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				beside := serve(t, Options{})
				var ends atomic.Int32
				s, err := beside.server.Session(Options{
					Subscribe: broker.SubscribeOptions{Channels: []string{"a"}},
					OnEnd:     func() { ends.Add(1) },
				})
				if err != nil {
					t.Fatal(err)
				}
				w := &panickyWriter{client: newClient(), where: tt.where}
				w.after.Store(tt.after)
				panicked := make(chan any)
				go func() {
					defer func() { panicked <- recover() }()
					tt.do(s, w, httptest.NewRequest(http.MethodGet, "/", nil))
				}()
				synctest.Wait()
				beside.publish(t, "a", "1")
				if p := <-panicked; p != http.ErrAbortHandler {
					t.Errorf("the handler has %v", p)
				}
				select {
				case <-s.Done():
				case <-time.After(time.Hour):
					t.Fatal("the stream does not end")
				}
				if n := beside.broker.Stats().Subscriptions; s.Reason() != ReasonError || ends.Load() != 1 || n != 1 {
					t.Errorf("ended for %q, %d times, and %d subscriptions are left", s.Reason(), ends.Load(), n)
				}
				beside.expect(t, opened, "id: ID\ndata: 1\n\n")
			})
		})
	}
}

// trackedConn is a rawConn whose Server is closed while watch is called.
type trackedConn struct {
	*client
	server        *Server
	closed, early atomic.Bool
	done          chan struct{}
}

func (c *trackedConn) watch(k watcher) {
	go func() {
		defer close(c.done)
		c.server.Close()
	}()
	for range 1000 {
		runtime.Gosched()
	}
	c.early.Store(c.closed.Load())
	c.client.watch(k)
}

func (c *trackedConn) close(bool) { c.closed.Store(true) }

func TestAConnectionIsNotClosedBeforeItIsWatched(t *testing.T) {
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
	l := &trackedConn{client: newClient(), server: server, done: make(chan struct{})}
	if _, err := s.writeOpening(newResponse(l)); err != nil {
		t.Fatal(err)
	}
	server.writers.adoptNow(s, l)
	<-l.done
	if l.early.Load() || !l.closed.Load() {
		t.Errorf("closed before it was watched: %v; at all: %v", l.early.Load(), l.closed.Load())
	}
	<-s.Done()
}
