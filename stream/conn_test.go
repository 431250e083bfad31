package stream

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/sse"
)

func TestConnOfARequestWhoseServerDoesNotTellIsNil(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if c := ConnOf(r); c != nil {
		t.Errorf("the connection is %v", c)
	}
	mine, other := net.Pipe()
	defer mine.Close()
	defer other.Close()
	if c := ConnOf(r.WithContext(ConnContext(r.Context(), mine))); c != mine {
		t.Errorf("the connection is %v, not the one that was told", c)
	}
}

// plainSite is a net/http server that knows its connections and detaches what
// it can. The path of a request names the channel.
type plainSite struct {
	*testing.T
	*httptest.Server
	broker   *broker.Broker
	sessions chan plainStream
	stop     func() // closes the site; it may be called again
}

// plainStream is a stream of a plainSite.
type plainStream struct {
	*Session
	detached bool
}

// newPlainSite makes a site, which change starts. It is closed when the test
// ends, and leaves no goroutine behind.
func newPlainSite(t *testing.T, change func(*httptest.Server)) *plainSite {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(b)
	site := &plainSite{T: t, broker: b, sessions: make(chan plainStream, 10)}
	site.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := server.Session(Options{Subscribe: broker.SubscribeOptions{
			Channels: []string{strings.Trim(r.URL.Path, "/")},
			Start:    broker.Start{LastEventID: r.Header.Get("Last-Event-ID")},
		}})
		if err != nil {
			t.Error(err)
			return
		}
		detached, err := s.Detach(w, r, ConnOf(r))
		site.sessions <- plainStream{s, detached}
		if !detached && err == nil {
			err = s.Serve(w, r)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	site.Config.ConnContext = ConnContext
	change(site.Server)
	site.stop = sync.OnceFunc(func() {
		site.Client().CloseIdleConnections()
		site.Close()
		server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		site.stop()
		leaktest.VerifyNone(t, leaks)
	})
	return site
}

// subscribe opens a stream of channel a and reads its opening event.
func (p *plainSite) subscribe(lastEventID string) (plainStream, *sse.Decoder, io.Closer) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, p.URL+"/a", nil)
	if err != nil {
		p.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := p.Client().Do(r)
	if err != nil {
		p.Fatal(err)
	}
	d := sse.NewDecoder(resp.Body, 64<<10)
	p.expect(d, "evstream.open", "")
	return <-p.sessions, d, resp.Body
}

// expect reads an event, whose data is not looked at if none is given.
func (p *plainSite) expect(d *sse.Decoder, typ, data string) {
	p.Helper()
	if e, err := d.Next(); err != nil || e.Type != typ || data != "" && string(e.Data) != data {
		p.Fatalf("read %+v, %v; want %q with %q", e, err, typ, data)
	}
}

// ended waits for the end of a stream.
func (p *plainSite) ended(s plainStream, reason Reason) {
	p.Helper()
	select {
	case <-s.Done():
		if s.Reason() != reason {
			p.Errorf("ended for %q, want %q", s.Reason(), reason)
		}
	case <-time.After(30 * time.Second):
		p.Fatal("the stream does not end")
	}
}

// life is that of a stream: it is begun, left, resumed and ended.
func (p *plainSite) checkLife(detached bool) {
	p.Helper()
	publish := func(data string) { (&served{broker: p.broker}).publish(p.T, "a", data) }
	first, d, body := p.subscribe("")
	publish("1")
	p.expect(d, "", "1")
	if err := body.Close(); err != nil {
		p.Error(err)
	}
	p.ended(first, ReasonClient)
	publish("missed")
	second, d, body := p.subscribe(d.LastEventID())
	defer body.Close()
	p.expect(d, "", "missed")
	publish("2")
	p.expect(d, "", "2")
	second.End()
	p.expect(d, "end", "")
	if e, err := d.Next(); err != io.EOF {
		p.Errorf("after the end: %+v, %v", e, err)
	}
	p.ended(second, ReasonEnded)
	if first.detached != detached || second.detached != detached {
		p.Errorf("detached: %v, then %v; want %v", first.detached, second.detached, detached)
	}
	if n := p.broker.Stats().Subscriptions; n != 0 {
		p.Errorf("%d subscriptions are left", n)
	}
}

// Over HTTP/1.1 and TLS they are detached, on Linux.
func TestStreamsOverHTTP2AreServedAttached(t *testing.T) {
	for name, tt := range map[string]struct {
		protocol string
		start    func(*httptest.Server)
	}{
		"HTTP/1.1 over TLS": {"HTTP/1.1", (*httptest.Server).StartTLS},
		"HTTP/2 over TLS": {"HTTP/2.0", func(s *httptest.Server) {
			s.EnableHTTP2 = true
			s.StartTLS()
		}},
		"HTTP/2 in the clear": {"HTTP/2.0", func(s *httptest.Server) {
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
			s.Client().Transport.(*http.Transport).Protocols = s.Config.Protocols
		}},
	} {
		t.Run(name, func(t *testing.T) {
			site := newPlainSite(t, func(s *httptest.Server) {
				handler := s.Config.Handler
				s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Proto != tt.protocol {
						t.Errorf("the request came over %s", r.Proto)
					}
					if ConnOf(r) == nil {
						t.Error("the connection is not known")
					}
					handler.ServeHTTP(w, r)
				})
				tt.start(s)
			})
			site.checkLife(tt.protocol == "HTTP/1.1" && runtime.GOOS == "linux")
		})
	}
}
