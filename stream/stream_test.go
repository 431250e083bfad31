package stream

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// client is a response whose reader sees what was flushed. It stalls on
// demand, and then obeys the write deadline.
type client struct {
	mu       sync.Mutex
	header   http.Header
	status   int
	unsent   []byte
	writes   int
	frames   []string // one a flush
	deadline time.Time
	stalled  bool
	gate     chan struct{} // writes wait for it, when set
}

func (c *client) Header() http.Header { return c.header }
func (c *client) WriteHeader(s int)   { c.status = s }

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled {
		wait := time.Until(c.deadline)
		c.mu.Unlock()
		time.Sleep(wait)
		c.mu.Lock()
		return 0, os.ErrDeadlineExceeded
	}
	c.writes++
	c.unsent = append(c.unsent, p...)
	return len(p), nil
}

func (c *client) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, string(c.unsent))
	c.unsent = nil
	return nil
}

func (c *client) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// hold makes writes wait until it is released.
func (c *client) hold() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gate := make(chan struct{})
	c.gate = gate
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gate = nil
		close(gate)
	}
}

// take is what was flushed since the last take, the random parts named.
func (c *client) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames = nil
	for i, f := range frames {
		f = regexp.MustCompile(`\d{12}-\d+`).ReplaceAllString(f, "ID")
		f = regexp.MustCompile(`retry: \d+`).ReplaceAllString(f, "retry: N")
		f = regexp.MustCompile(`"session":"[\w-]{22}"`).ReplaceAllString(f, `"session":"S"`)
		frames[i] = f
	}
	return frames
}

type served struct {
	*Session
	*client
	broker *broker.Broker
	leave  context.CancelFunc
}

// serve runs a stream on its own broker, in a synctest bubble.
func serve(t *testing.T, o Options, change ...func(*broker.Config)) *served {
	t.Helper()
	cfg := broker.DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	b, err := broker.New(broker.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if o.Subscribe.Channels == nil {
		o.Subscribe.Channels = []string{"a"}
	}
	s, err := New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{header: http.Header{}}
	ctx, leave := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := s.Serve(c, r); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		leave()
		<-finished
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return &served{s, c, b, leave}
}

func (s *served) publish(t *testing.T, channel, data string) {
	t.Helper()
	op := broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte(data)}}
	if _, err := s.broker.Publish(context.Background(), []broker.Op{op}); err != nil {
		t.Fatal(err)
	}
}

func (s *served) expect(t *testing.T, frames ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.take(); !slices.Equal(got, frames) {
		t.Errorf("flushed\n%q\nwant\n%q", got, frames)
	}
}

const opened = ": evstream\n\nid: ID\nevent: evstream.open\nretry: N\n" +
	"data: {\"session\":\"S\",\"channels\":[\"a\"],\"last_event_id\":\"ID\"}\n\n"

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestAStreamOpensWithACursor(t *testing.T) {
	bubble(t, "plain", func(t *testing.T) {
		s := serve(t, Options{})
		s.expect(t, opened)
		want := http.Header{
			"Content-Type":      {"text/event-stream"},
			"Cache-Control":     {"no-cache, no-store, no-transform"},
			"X-Accel-Buffering": {"no"},
		}
		if s.status != 200 || !equalHeaders(s.header, want) {
			t.Errorf("%d %v, want 200 %v", s.status, s.header, want)
		}
		if !s.deadline.IsZero() {
			t.Error("the write deadline is left set on an idle stream")
		}
	})
	bubble(t, "no opening event", func(t *testing.T) {
		serve(t, Options{NoOpen: true}).expect(t, ": evstream\n\nretry: N\n\n")
	})
	bubble(t, "padding", func(t *testing.T) {
		serve(t, Options{Padding: true}).expect(t, ": evstream"+strings.Repeat(" ", 2048)+strings.TrimPrefix(opened, ": evstream"))
	})
	bubble(t, "bad cursor", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Start.LastEventID = "nonsense"
		serve(t, o).expect(t, opened, "event: evstream.gap\ndata: {\"reason\":\"unknown\",\"oldest\":null,\"newest\":null}\n\n")
	})
	bubble(t, "bad cursor, no opening event", func(t *testing.T) {
		o := Options{NoOpen: true}
		o.Subscribe.Start.LastEventID = "0-0"
		serve(t, o).expect(t, ": evstream\n\nretry: N\n\n",
			"id: ID\nevent: evstream.gap\ndata: {\"reason\":\"restarted\",\"oldest\":null,\"newest\":null}\n\n")
	})
}

func equalHeaders(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

func TestWhatIsNewIsOneWriteAndOneFlush(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Channels = []string{"a", "b"}
		s := serve(t, o)
		s.take()
		before := s.writes
		release := s.hold()
		s.publish(t, "a", "1")
		s.publish(t, "b", "2")
		s.publish(t, "a", "3")
		synctest.Wait()
		release()
		synctest.Wait()
		all := strings.Join(s.take(), "")
		if want := "id: ID\ndata: 1\n\nid: ID\ndata: 2\n\nid: ID\ndata: 3\n\n"; all != want {
			t.Errorf("flushed %q, want %q", all, want)
		}
		if writes := s.writes - before; writes > 2 {
			t.Errorf("three events took %d writes", writes)
		}
		if s.Delivered() != 3 {
			t.Errorf("delivered %d, want 3", s.Delivered())
		}
	})
}

func TestAQuietStreamGetsHeartbeats(t *testing.T) {
	bubble(t, "comment", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		time.Sleep(14 * time.Second)
		s.expect(t)
		time.Sleep(time.Second)
		s.expect(t, ":\n\n")
		time.Sleep(10 * time.Second)
		s.publish(t, "a", "1")
		s.expect(t, "id: ID\ndata: 1\n\n")
		time.Sleep(14 * time.Second)
		s.expect(t)
		time.Sleep(time.Second)
		s.expect(t, ":\n\n")
	})
	bubble(t, "event", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: time.Second, HeartbeatEvent: true})
		s.take()
		time.Sleep(time.Second)
		s.expect(t, "event: heartbeat\ndata: \n\n")
	})
	bubble(t, "off", func(t *testing.T) {
		s := serve(t, Options{Heartbeat: -1})
		s.take()
		time.Sleep(time.Hour)
		s.expect(t)
	})
	bubble(t, "tells a cursor that has moved", func(t *testing.T) {
		o := Options{}
		o.Subscribe.Types = []string{"other"}
		s := serve(t, o)
		s.take()
		s.publish(t, "a", "1")
		s.expect(t)
		time.Sleep(15 * time.Second)
		s.expect(t, "id: ID\nevent: evstream.at\ndata: \n\n")
		time.Sleep(15 * time.Second)
		s.expect(t, ":\n\n")
	})
}

func TestAStreamEnds(t *testing.T) {
	ends := func(name, frame string, reason Reason, o Options, end func(*served)) {
		bubble(t, name, func(t *testing.T) {
			s := serve(t, o)
			s.publish(t, "a", "1")
			synctest.Wait()
			s.take()
			end(s)
			<-s.Done()
			if frame == "" {
				s.expect(t)
			} else {
				s.expect(t, frame)
			}
			if s.Reason() != reason {
				t.Errorf("ended for %q, want %q", s.Reason(), reason)
			}
			if n := s.broker.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
			if err := s.Push(context.Background(), sse.Event{}); err != ErrEnded {
				t.Errorf("Push: %v, want ErrEnded", err)
			}
		})
	}
	ends("End", "id: evstream.end\nevent: end\ndata: \n\n", ReasonEnded, Options{}, func(s *served) { s.End() })
	ends("Close", "retry: N\n\n", ReasonReload, Options{}, func(s *served) { s.Close(ReasonReload) })
	ends("client", "", ReasonClient, Options{}, func(s *served) { s.leave() })
	ends("broker", "retry: N\n\n", ReasonClosed, Options{}, func(s *served) {
		if err := s.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	ends("age", "retry: N\n\n", ReasonAge, Options{MaxAge: time.Second}, func(*served) {})
	ends("drain", "retry: N\n\n", ReasonShutdown, Options{}, func(s *served) {
		begun := time.Now()
		s.Drain(5*time.Second, ReasonShutdown)
		<-s.Done()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("drained after %s", took)
		}
	})
	ends("sooner than planned", "id: evstream.end\nevent: end\ndata: \n\n", ReasonEnded, Options{}, func(s *served) {
		s.Drain(time.Hour, ReasonShutdown)
		s.End()
		s.Drain(time.Hour, ReasonShutdown)
	})
	ends("with a cursor that has moved", "id: ID\nevent: evstream.at\nretry: N\ndata: \n\n", ReasonReload, Options{}, func(s *served) {
		s.publish(t, "other", "1")
		s.Close(ReasonReload)
	})
}

func TestAStreamEndsWithItsCredentialAndSaysSoBefore(t *testing.T) {
	for _, tt := range []struct {
		name           string
		expires, warns time.Duration
		maxAge         time.Duration
		reason         Reason
	}{
		{"long", time.Minute, 30 * time.Second, 0, ReasonExpired},
		{"short", 4 * time.Second, 2 * time.Second, 0, ReasonExpired},
		{"past already", -time.Second, 0, 0, ReasonExpired},
		{"later than its age", time.Hour, 0, time.Second, ReasonAge},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			begun := time.Now()
			s := serve(t, Options{Heartbeat: -1, MaxAge: tt.maxAge, Expires: begun.Add(tt.expires)})
			s.take()
			if tt.warns > 0 {
				time.Sleep(tt.warns - time.Millisecond)
				s.expect(t)
				time.Sleep(time.Millisecond)
				at := begun.Add(tt.expires).UTC().Format(time.RFC3339)
				s.expect(t, "event: evstream.expiring\ndata: {\"expires\":\""+at+"\"}\n\n")
			}
			<-s.Done()
			if s.Reason() != tt.reason {
				t.Errorf("ended for %q, want %q", s.Reason(), tt.reason)
			}
			if lasted := time.Since(begun); lasted > max(tt.expires, tt.maxAge, 0) && tt.reason == ReasonExpired || lasted > tt.maxAge && tt.reason == ReasonAge {
				t.Errorf("lasted %s", lasted)
			}
		})
	}
}

func TestAStalledStreamIsCutAndTheRestIsNot(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.client.mu.Lock()
		s.stalled = true
		s.client.mu.Unlock()
		begun := time.Now()
		s.publish(t, "a", "1")
		<-s.Done()
		if s.Reason() != ReasonSlow || time.Since(begun) != 10*time.Second {
			t.Errorf("ended for %q after %s, want slow after 10s", s.Reason(), time.Since(begun))
		}
	})
}

func TestASlowReaderIsToldOfTheGap(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{}, func(c *broker.Config) { c.History.Bytes = broker.MinBytes })
		s.take()
		release := s.hold()
		s.publish(t, "a", "first")
		synctest.Wait()
		for range 40 {
			s.publish(t, "a", strings.Repeat("x", 400))
		}
		release()
		synctest.Wait()
		all := strings.Join(s.take(), "")
		before, after, found := strings.Cut(all, "event: evstream.gap\ndata: {\"reason\":\"trimmed\",\"oldest\":\"ID\",\"newest\":\"ID\"}\n\n")
		if !found || !strings.Contains(before, "first") || !strings.Contains(after, "xxx") {
			t.Errorf("flushed %.300q…, want the first event, a gap, and the newest events", all)
		}
	})
}

func TestNeverServedSessionsLetGo(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		other, err := New(s.broker, Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		other.Close(ReasonError)
		<-other.Done()
		if err := other.Serve(s.client, httptest.NewRequest(http.MethodGet, "/", nil)); err != ErrServed {
			t.Errorf("Serve: %v, want ErrServed", err)
		}
		if n := s.broker.Stats().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions, want 1", n)
		}
	})
}

// eager is a client for whom there is more whenever it has read something.
type eager struct {
	*client
	publish func()
}

func (e *eager) Write(p []byte) (int, error) {
	e.publish()
	return e.client.Write(p)
}

// A reader that lags always has something to be sent: it ends all the same.
func TestAStreamEndsWhileItsReaderLags(t *testing.T) {
	for name, end := range map[string]func(s *Session, leave func()){
		"refused":  func(s *Session, _ func()) { s.Close(ReasonRefused) },
		"ended":    func(s *Session, _ func()) { s.End() },
		"shutdown": func(s *Session, _ func()) { s.Drain(0, ReasonShutdown) },
		"client":   func(_ *Session, leave func()) { leave() },
		"max_age":  func(*Session, func()) {},
	} {
		bubble(t, name, func(t *testing.T) {
			b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			o := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
			if name == "max_age" {
				o.MaxAge = time.Second
			}
			s, err := New(b, o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			data := []byte(strings.Repeat("x", 200<<10))
			c, writes := &client{header: http.Header{}}, 0
			publish := func() {
				for range 3 {
					op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: data}}
					if _, err := b.Publish(t.Context(), []broker.Op{op}); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(10 * time.Millisecond)
				switch writes++; writes {
				case 30:
					end(s, leave)
				case 1000:
					panic("the stream does not end")
				}
			}
			if err := s.Serve(&eager{c, publish}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)); err != nil {
				t.Fatal(err)
			}
			if s.Reason() != Reason(name) {
				t.Errorf("ended for %q, want %q", s.Reason(), name)
			}
		})
	}
}
