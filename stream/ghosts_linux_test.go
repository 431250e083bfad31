package stream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// inNamespace runs f on a thread with a network of its own, which ends with it, and
// returns a chan that is closed when f has returned. What f opens stays in that
// network.
func inNamespace(t *testing.T, f func(thread int)) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			t.Errorf("a network namespace: %v", err)
			return
		}
		f(syscall.Gettid())
	}()
	return done
}

// ip runs ip(8) in the network of the calling thread.
func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v\n%s", args, err, out)
	}
}

// A client whose link goes down says nothing, and nothing says that it is gone. It is
// found by what it does not acknowledge.
func TestAClientThatVanishesIsFound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make networks and take their links down")
	}
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	server := NewServer(b)
	defer server.Close()
	server.ghosts = ghosts{unacknowledged: 1500 * time.Millisecond, idle: time.Second, interval: time.Second, probes: 2}
	sessions := make(chan *Session, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heartbeat := time.Second
		if r.URL.Query().Has("quiet") {
			heartbeat = -1
		}
		s, err := server.Session(Options{
			Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}, Heartbeat: heartbeat, WriteTimeout: time.Second,
		})
		if err != nil {
			t.Error(err)
			return
		}
		sessions <- s
		if detached, _ := s.Detach(w, r, ConnOf(r)); detached {
			return
		}
		if err := s.Begin(w, r, ConnOf(r)); err != nil {
			t.Error(err)
			return
		}
		s.Wait()
	})
	var plain, secure *httptest.Server
	made, up, streaming := make(chan struct{}), make(chan struct{}), make(map[string]*Session)
	near := inNamespace(t, func(near int) {
		listen := func() *httptest.Server {
			l, err := net.Listen("tcp", "0.0.0.0:0")
			if err != nil {
				t.Error(err)
			}
			return &httptest.Server{Listener: l, EnableHTTP2: true, Config: &http.Server{Handler: handler, ConnContext: ConnContext}}
		}
		plain, secure = listen(), listen()
		far := inNamespace(t, func(int) {
			ip(t, "link add far type veth peer name near netns "+strconv.Itoa(near))
			ip(t, "address add 192.0.2.2/24 dev far")
			ip(t, "link set far up")
			close(made)
			<-up
			for name, tt := range map[string]struct {
				site  *httptest.Server
				h2    bool
				query string
			}{
				"detached":                {plain, false, ""},
				"detached, no heartbeats": {plain, false, "?quiet"},
				"TLS":                     {secure, false, ""},
				"TLS, no heartbeats":      {secure, false, "?quiet"},
				"HTTP/2":                  {secure, true, ""},
				"HTTP/2, no heartbeats":   {secure, true, "?quiet"},
			} {
				port := tt.site.Listener.Addr().(*net.TCPAddr).Port
				conn, err := net.DialTimeout("tcp", "192.0.2.1:"+strconv.Itoa(port), patience)
				if err != nil {
					t.Error(err)
					return
				}
				transport := &http.Transport{
					DialContext:     func(context.Context, string, string) (net.Conn, error) { return conn, nil },
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
					Protocols:       new(http.Protocols),
				}
				transport.Protocols.SetHTTP1(!tt.h2)
				transport.Protocols.SetHTTP2(tt.h2)
				resp, err := (&http.Client{Transport: transport}).Get(tt.site.URL + "/" + tt.query)
				if err != nil {
					t.Error(name, err)
					return
				}
				t.Cleanup(func() {
					_ = resp.Body.Close()
					_ = conn.Close()
				})
				streaming[name] = <-sessions
			}
			ip(t, "link set far down")
		})
		select {
		case <-made:
		case <-far:
			return
		}
		ip(t, "address add 192.0.2.1/24 dev near")
		ip(t, "link set near up")
		plain.Start()
		secure.StartTLS()
		close(up)
		<-far
	})
	<-near
	if t.Failed() {
		return
	}
	defer func() {
		for _, s := range streaming {
			s.Close(ReasonClosed) // one that was not found
		}
		plain.CloseClientConnections()
		secure.CloseClientConnections()
		plain.Close()
		secure.Close()
	}()
	late := time.After(patience)
	for name, s := range streaming {
		select {
		case <-s.Done():
			if s.Reason() != ReasonClient {
				t.Errorf("%s: ended for %q", name, s.Reason())
			}
		case <-late:
			t.Fatalf("%s: the stream goes on", name)
		}
	}
}

// The bound lasts as long as the streams of a connection. It is never shorter than
// the write timeout, which an operator may have raised for slow clients.
func TestTheBoundOnUnacknowledgedDataIsThatOfTheStreams(t *testing.T) {
	for name, tt := range map[string]struct {
		writeTimeout time.Duration
		want         int
	}{
		"default":              {0, 30_000},
		"a long write timeout": {time.Minute, 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			server := NewServer(b)
			defer server.Close()
			conns, ended := make(chan net.Conn, 1), make(chan *Session, 1)
			site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}, WriteTimeout: tt.writeTimeout})
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Begin(w, r, ConnOf(r)); err != nil {
					t.Error(err)
				}
				conns <- ConnOf(r)
				ended <- s
				s.Wait()
			}))
			site.EnableHTTP2, site.Config.ConnContext = true, ConnContext
			site.StartTLS()
			defer site.Close()
			resp, err := site.Client().Get(site.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			raw, err := tcpOf(<-conns).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			limit := func() (ms int) {
				if err := raw.Control(func(fd uintptr) { ms, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) }); err != nil {
					t.Fatal(err)
				}
				return ms
			}
			if ms := limit(); ms != tt.want {
				t.Errorf("data may be unacknowledged for %d ms, not %d", ms, tt.want)
			}
			s := <-ended
			s.End()
			<-s.Done()
			if ms := limit(); ms != 0 {
				t.Errorf("after the stream, for %d ms", ms)
			}
		})
	}
}
