package hook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/h2front"
)

// parking is a server that parks connections at once, and its client.
type parking struct {
	url    string
	client *http.Client
	config *http.Server
	taken  chan *watched
	gone   chan struct{} // is sent to whenever the HTTP/2 server of a connection has gone
}

// startParking starts a server with a handler beside /stream, of which streams are taken.
func startParking(t *testing.T, handler http.HandlerFunc, configure func(*http.Server)) *parking {
	t.Helper()
	taken := make(chan *watched, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			handler(w, r)
			return
		}
		s := r.Context().Value(frontKey{}).(*h2front.Conn).Take(20 * time.Second)
		_, _ = io.WriteString(w, "opening\n")
		w.(http.Flusher).Flush()
		watch := watcher{make(chan struct{}, 1), make(chan struct{})}
		s.Watch(watch)
		_, _ = w.Write(s.Marker())
		w.(http.Flusher).Flush()
		taken <- &watched{s, watch}
	}))
	server.EnableHTTP2 = true
	configure(server.Config)
	gone := make(chan struct{}, 1<<16)
	var once sync.Once
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		once.Do(func() {
			install(ctx.Value(http.ServerContextKey).(*http.Server), func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, frontKey{}, conn)
			}, h2front.Options{ParkAfter: time.Microsecond}, func() { gone <- struct{}{} })
		})
		return ctx
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return &parking{server.URL, server.Client(), server.Config, taken, gone}
}

// watched is a stream and who is told of it.
type watched struct {
	*h2front.Stream
	watcher
}

// write writes all of an event.
func (w *watched) write(event string, last bool) error {
	end := time.After(20 * time.Second)
	for {
		if n, err := w.Write(nil, []byte(event), last); err == nil && n == len(event) {
			return nil
		} else if !errors.Is(err, h2front.ErrFull) {
			return fmt.Errorf("%d bytes of %q were taken: %w", n, event, err)
		}
		select {
		case <-w.writes:
		case <-w.over:
			return net.ErrClosed
		case <-end:
			return errors.New("the stream was not writable in time")
		}
	}
}

// get makes a request with headers, of which the answer is to be read.
func (p *parking) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	return p.client.Do(req)
}

// stream opens a stream that is taken.
func (p *parking) stream(t *testing.T) (*watched, *bufio.Reader) {
	t.Helper()
	answer, err := p.get(t.Context(), "/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	lines := bufio.NewReader(answer.Body)
	if line, err := lines.ReadString('\n'); line != "opening\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	return <-p.taken, lines
}

// TestAServerStaysWhileAHandlerRuns has a client reset a stream of which the handler goes on: the
// server, which bounds how many there are, does not forget it.
func TestAServerStaysWhileAHandlerRuns(t *testing.T) {
	var p *parking
	began, ended := make(chan struct{}), make(chan bool)
	p = startParking(t, func(_ http.ResponseWriter, r *http.Request) {
		for len(p.gone) > 0 {
			<-p.gone
		}
		close(began)
		<-r.Context().Done()
		select {
		case <-p.gone:
			ended <- true
		case <-time.After(200 * time.Millisecond): // much longer than a server is kept
			ended <- false
		}
	}, func(*http.Server) {})
	p.stream(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if answer, err := p.get(ctx, "/slow", nil); err == nil {
		_ = answer.Body.Close()
		t.Fatal("an answer has come")
	}
	if <-ended {
		t.Fatal("the server has gone")
	}
	select {
	case <-p.gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the server has not gone")
	}
}

// TestAServerThatTakesHardlyAnyHeader has requests with small headers fill the table, which the
// next server would take for a header that is too large.
func TestAServerThatTakesHardlyAnyHeader(t *testing.T) {
	for _, most := range []int{100, leastHeader} {
		p := startParking(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) },
			func(s *http.Server) { s.MaxHeaderBytes = most })
		p.stream(t)
		for i := range 80 {
			header := http.Header{}
			header.Set(fmt.Sprintf("X%d", i), strings.Repeat("~", 40))
			answer, err := p.get(t.Context(), "/x", header)
			if err != nil {
				t.Fatalf("at most %d bytes, request %d: %v", most, i, err)
			}
			if body, err := io.ReadAll(answer.Body); string(body) != "/x" {
				t.Fatalf("at most %d bytes, request %d: read %d %q, %v", most, i, answer.StatusCode, body, err)
			}
			_ = answer.Body.Close()
			if most == leastHeader {
				select {
				case <-p.gone:
				case <-time.After(20 * time.Second):
					t.Fatal("the server has not gone")
				}
			}
		}
		if gone := len(p.gone); most < leastHeader && gone > 0 {
			t.Fatalf("%d servers have gone", gone)
		}
	}
}

// TestShutdownOfAParkedConnection has the client have no more requests.
func TestShutdownOfAParkedConnection(t *testing.T) {
	p := startParking(t, func(http.ResponseWriter, *http.Request) {}, func(*http.Server) {})
	s, lines := p.stream(t)
	<-p.gone
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	shut := make(chan error, 1)
	go func() { shut <- p.config.Shutdown(ctx) }()
	if err := s.write("last\n", true); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); string(rest) != "last\n" || err != nil {
		t.Fatalf("read %q, %v", rest, err)
	}
	if err := <-shut; err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsThatHaveEndedAreForgotten(t *testing.T) {
	f := &fronts{all: make(map[*h2front.Conn]struct{})}
	conn, other := net.Pipe()
	defer conn.Close()
	defer other.Close()
	c := h2front.New(conn, h2front.Options{})
	if f.add(c); len(f.all) != 1 {
		t.Fatalf("%d connections are known", len(f.all))
	}
	if f.remove(c); len(f.all) != 0 {
		t.Fatalf("%d connections are known", len(f.all))
	}
}

// TestShutdownAtAnyMoment has a server be shut down while those of its connections go and come:
// streams go on to their end, and Shutdown waits for no more than that.
func TestShutdownAtAnyMoment(t *testing.T) {
	for range 30 {
		p := startParking(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, func(*http.Server) {})
		s, lines := p.stream(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		requests := 0
		var asking sync.WaitGroup
		asking.Go(func() {
			for ; ; requests++ {
				answer, err := p.get(ctx, "/", nil)
				if err != nil {
					return // there is no connection for it any more
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
		for range rand.IntN(30) {
			<-p.gone
		}
		shut := make(chan error, 1)
		go func() { shut <- p.config.Shutdown(ctx) }()
		asking.Wait()
		for i := range 3 {
			event := fmt.Sprintf("event %d\n", i)
			if err := s.write(event, i == 2); err != nil {
				t.Fatalf("after %d requests: %v", requests, err)
			}
			if line, err := lines.ReadString('\n'); line != event {
				t.Fatalf("after %d requests: read %q, %v, want %q", requests, line, err, event)
			}
		}
		if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
			t.Fatalf("read %q, %v after the end", rest, err)
		}
		if err := <-shut; err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}
