package hook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/h2front"
	"github.com/evstream/caddy-evstream/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

type frontKey struct{}

// watcher is told what becomes of a stream.
type watcher struct{ writes, over chan struct{} }

func (w watcher) OnWritable() {
	select {
	case w.writes <- struct{}{}:
	default:
	}
}
func (w watcher) OnHangup() { close(w.over) }

// TestInstall has a server of net/http with TLS serve HTTP/2 through a Conn: requests are what
// they were, and a stream goes on after its handler, until after Shutdown has begun.
func TestInstall(t *testing.T) {
	const patience = 20 * time.Second
	watch := watcher{make(chan struct{}, 1), make(chan struct{})}
	streams := make(chan *h2front.Stream, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		front, _ := r.Context().Value(frontKey{}).(*h2front.Conn)
		if front == nil || r.Proto != "HTTP/2.0" || r.TLS == nil || r.TLS.NegotiatedProtocol != "h2" || r.Context().Value(http.ServerContextKey) == nil {
			http.Error(w, "not as it should be", http.StatusInternalServerError)
			return
		}
		if r.URL.Path != "/stream" {
			_, _ = io.WriteString(w, "plain")
			return
		}
		s := front.Take(patience)
		if s == nil {
			http.Error(w, "not taken", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "opening\n")
		w.(http.Flusher).Flush()
		s.Watch(watch)
		_, _ = w.Write(s.Marker())
		w.(http.Flusher).Flush()
		streams <- s
	}))
	server.EnableHTTP2 = true
	var states struct {
		sync.Mutex
		of map[net.Conn][]http.ConnState
	}
	states.of = make(map[net.Conn][]http.ConnState)
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		states.Lock()
		defer states.Unlock()
		states.of[conn] = append(states.of[conn], state)
	}
	var once sync.Once
	installed := false
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		once.Do(func() {
			installed = Install(ctx.Value(http.ServerContextKey).(*http.Server), func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, frontKey{}, conn)
			})
		})
		return ctx
	}
	server.StartTLS()
	defer server.Close()
	client := server.Client()
	get := func(path string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		answer, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	body, err := io.ReadAll(get("/plain").Body)
	if string(body) != "plain" || err != nil || !installed {
		t.Fatalf("read %q, %v; installed: %v", body, err, installed)
	}
	lines := bufio.NewReader(get("/stream").Body)
	expect := func(want string) {
		t.Helper()
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
	}
	expect("opening\n")
	s := <-streams
	write := func(event string, last bool) {
		t.Helper()
		for {
			n, err := s.Write(nil, []byte(event), last)
			if err == nil && n == len(event) {
				return
			}
			select {
			case <-watch.writes:
			case <-watch.over:
				t.Fatal("the stream is over")
			case <-time.After(patience):
				t.Fatal("the stream was not writable in time")
			}
		}
	}
	write("one\n", false)
	expect("one\n")

	shut := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { shut <- server.Config.Shutdown(ctx) }()
	select {
	case err := <-shut:
		t.Fatalf("Shutdown has not waited for the stream: %v", err)
	case <-time.After(1500 * time.Millisecond): // the server leaves after a second
	}
	write("two\n", false)
	expect("two\n")
	write("three\n", true)
	expect("three\n")
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Fatalf("read %q, %v after the end", rest, err)
	}
	if err := <-shut; err != nil {
		t.Fatal(err)
	}
	states.Lock()
	defer states.Unlock()
	for conn, of := range states.of {
		if of[0] != http.StateNew || !slices.Contains(of, http.StateIdle) || of[len(of)-1] != http.StateClosed {
			t.Fatalf("states of %T: %v", conn, of)
		}
	}
}

func TestInstallNeedsHTTP2(t *testing.T) {
	if Install(new(http.Server), stay) {
		t.Fatal("installed in a server that does not do HTTP/2")
	}
}

func stay(ctx context.Context, _ net.Conn) context.Context { return ctx }

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// Since Go 1.27 net/http serves HTTP/2 itself, and what TLSNextProto has for it is not called.
func TestSelfTestTellsOfAHookThatIsNotCalled(t *testing.T) {
	err := runSelfTest(func(*http.Server, func(context.Context, net.Conn) context.Context, h2front.Options, func()) bool {
		return true
	})
	if err == nil || !strings.Contains(err.Error(), "serves HTTP/2 itself") {
		t.Fatalf("the self-test says %v", err)
	}
}
