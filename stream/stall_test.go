package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/nettest"
)

// bubbleAttached is bubble for the two modes of attached streams.
func bubbleAttached(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, mode := range []string{"alone/attached", "together/shared"} {
		t.Run(mode, func(t *testing.T) { synctest.Test(t, f) })
	}
}

// The timers find stalled streams, and run for as long as there are attached ones.
func TestAStalledStreamIsCutThoughItsServerIsClosed(t *testing.T) {
	bubbleAttached(t, func(t *testing.T) {
		b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		server := NewServer(b)
		o := Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}}
		s := open(t, server, o)
		synctest.Wait()
		s.stall()
		begun := time.Now()
		s.publish(t, "a", "1")
		synctest.Wait()
		s.Close(ReasonReload)
		server.Close()
		late := open(t, server, o)
		synctest.Wait()
		late.stall()
		late.publish(t, "a", "2")
		synctest.Wait()
		atOnce, err := server.Session(o)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient()
		c.stall()
		defer time.AfterFunc(time.Hour, c.hangUp).Stop()
		if err := atOnce.Serve(c, httptest.NewRequest(http.MethodGet, "/", nil)); err != nil || atOnce.Reason() != ReasonSlow {
			t.Errorf("a stream that is stalled from the beginning: %v, ended for %q", err, atOnce.Reason())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range []*served{s, late} {
			select {
			case <-s.Done():
			case <-time.After(time.Hour):
				s.hangUp()
				t.Fatal("a stream does not end")
			}
			if took := time.Since(begun); s.Reason() != ReasonSlow || took < 10*time.Second || took > 12*time.Second {
				t.Errorf("ended for %q after %s, want slow after 10s", s.Reason(), took)
			}
		}
	})
}

func TestAGreetingThatIsStalledFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beside := serve(t, Options{})
		s, err := beside.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		c := newClient()
		c.stall()
		begun := time.Now()
		defer time.AfterFunc(time.Hour, c.hangUp).Stop()
		ok, err := s.writeOpening(newResponse(c))
		if took := time.Since(begun); ok || err != nil || s.Reason() != ReasonSlow || took != 10*time.Second {
			t.Errorf("written: %v, %v, ended for %q after %s, want slow after 10s", ok, err, s.Reason(), took)
		}
	})
}

// A slow client takes long to read a large event, but it is not stalled.
func TestALargeEventMayTakeItsTime(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		s.stall()
		data := strings.Repeat("x", 250<<10)
		s.publish(t, "a", data)
		for range 2 {
			time.Sleep(9 * time.Second)
			s.give(130 << 10)
		}
		synctest.Wait()
		if got := strings.Join(s.take(), ""); got != "id: ID\ndata: "+data+"\n\n" {
			t.Errorf("flushed %d bytes", len(got))
		}
	})
}

// A client that takes a few bytes now and then has the write timeout for each
// piece, and no more: otherwise it could keep a revoked stream open.
func TestATrickleDoesNotPutOffTheEnd(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		s.stall()
		s.publish(t, "a", strings.Repeat("x", 60<<10))
		synctest.Wait()
		begun := time.Now()
		s.Close(ReasonRevoked)
		trickle := time.NewTicker(time.Second)
		defer trickle.Stop()
		defer time.AfterFunc(time.Hour, s.hangUp).Stop()
		for ended := false; !ended; {
			select {
			case <-s.Done():
				ended = true
			case <-trickle.C:
				s.give(1)
			}
		}
		if took := time.Since(begun); s.Reason() != ReasonRevoked && s.Reason() != ReasonSlow || took > 12*time.Second {
			t.Errorf("ended for %q after %s", s.Reason(), took)
		}
	})
}

// An abort fails the current write and not the next one. The caller aborts again
// until the stream has ended.
func TestAnAbortOfEachStalledWriteEndsAStream(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		s.stall()
		for range 4 {
			s.publish(t, "a", strings.Repeat("x", 60<<10))
		}
		synctest.Wait()
		s.Close(ReasonShutdown)
		synctest.Wait()
		begun := time.Now()
		s.give(62 << 10) // what is pending, and a little of what comes next
		s.Abort()
		synctest.Wait()
		s.Abort()
		<-s.Done()
		if took := time.Since(begun); took > time.Second+time.Second/4 {
			t.Errorf("ended for %q after %s", s.Reason(), took)
		}
	})
}

// deafSite is a site over HTTP/2 whose client stops reading from its connection
// when deafen is called.
type deafSite struct {
	*testing.T
	deafen   func()
	url      string
	client   *http.Client
	broker   *broker.Broker
	sessions chan *Session
}

func newDeafSite(t *testing.T, writeTimeout time.Duration) *deafSite {
	t.Helper()
	site, b, _, sessions := connected(t, func(r *http.Request) Options {
		return Options{
			Subscribe:    broker.SubscribeOptions{Channels: []string{r.URL.Path[1:]}},
			WriteTimeout: writeTimeout,
		}
	}, func(*httptest.Server) {})
	deaf, over := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(over) }) // before the site closes
	transport := site.Client().Transport.(*http.Transport)
	config := transport.TLSClientConfig.Clone()
	config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tls.Client(nettest.Deaf{Conn: conn, Since: deaf, Until: over}, config), nil
	}
	return &deafSite{t, func() { close(deaf) }, site.URL, site.Client(), b, sessions}
}

func (d *deafSite) subscribe(channel string) (*Session, *bufio.Reader) {
	d.Helper()
	resp, err := d.client.Get(d.url + "/" + channel)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != 2 {
		d.Fatal(resp.Proto)
	}
	return <-d.sessions, bufio.NewReader(resp.Body)
}

func (d *deafSite) publish(channel, data string) {
	d.Helper()
	(&served{broker: d.broker}).publish(d.T, channel, data)
}

// flood publishes more than the client takes of a stream, and than the sockets
// hold.
func (d *deafSite) flood(channel string) {
	d.Helper()
	data := strings.Repeat("x", 200<<10)
	for range 80 {
		d.publish(channel, data)
	}
}

// ends waits for the end of a stream that is stalled.
func (d *deafSite) ends(s *Session) {
	d.Helper()
	select {
	case <-s.Done():
		if s.Reason() != ReasonSlow {
			d.Errorf("ended for %q", s.Reason())
		}
	case <-time.After(30 * time.Second):
		d.Fatal("the stream does not end")
	}
}

// Over HTTP/2 a stalled stream ends, and the other streams of its connection go
// on. If the client does not read from the connection at all, the reset of the
// stream cannot be sent: the connection is closed, and all its streams end.
func TestAStalledStreamOfAConnectionIsCutAndAStuckConnectionIsClosed(t *testing.T) {
	d := newDeafSite(t, 500*time.Millisecond)
	unread, _ := d.subscribe("a")
	other, reader := d.subscribe("b")
	d.flood("a")
	d.ends(unread)
	d.publish("b", "1")
	for line := ""; line != "data: 1\n"; {
		var err error
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	d.deafen()
	d.flood("b")
	d.ends(other)
}

// abortRepeatedly aborts a stream again and again, as an exit does, until it has
// ended, and returns how long that took.
func abortRepeatedly(t *testing.T, s *Session) time.Duration {
	t.Helper()
	begun := time.Now()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for time.Since(begun) < 30*time.Second {
		s.Abort()
		select {
		case <-s.Done():
			if s.Reason() != ReasonSlow {
				t.Errorf("ended for %q", s.Reason())
			}
			return time.Since(begun)
		case <-again.C:
		}
	}
	t.Fatal("the stream does not end")
	return 0
}

// Repeated aborts, at intervals shorter than resetGrace, do not postpone the end.
func TestAStreamOfAStuckConnectionThatIsAbortedAgainAndAgainEnds(t *testing.T) {
	d := newDeafSite(t, 10*time.Second)
	stuck, _ := d.subscribe("a")
	d.deafen()
	d.flood("a")
	abortRepeatedly(t, stuck)
}

// stuckClient is a client of an HTTP/2 connection on which nothing can be sent,
// not even the reset of a stream: writes fail only when it is closed.
type stuckClient struct{ *client }

func (stuckClient) SetWriteDeadline(time.Time) error { return nil }

// stuckConn is the connection of a stuckClient.
type stuckConn struct {
	net.Conn
	client *client
}

func (c *stuckConn) Close() error {
	c.client.hangUp()
	return nil
}

func TestAStuckConnectionIsClosedSoonAfterItsStreamIsAborted(t *testing.T) {
	for _, tt := range []struct{ writeTimeout, want time.Duration }{
		{time.Second, time.Second},
		{16 * time.Second, 2 * time.Second},
		{10 * time.Minute, 5 * time.Second},
	} {
		t.Run(tt.writeTimeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				beside := serve(t, Options{})
				s, err := beside.server.Session(Options{
					Subscribe:    broker.SubscribeOptions{Channels: []string{"a"}},
					WriteTimeout: tt.writeTimeout,
				})
				if err != nil {
					t.Fatal(err)
				}
				c := newClient()
				c.stall()
				t.Cleanup(c.hangUp)
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.ProtoMajor = 2
				go func() {
					if err := s.Begin(stuckClient{c}, r, &stuckConn{client: c}); err != nil {
						t.Error(err)
						return
					}
					s.Wait()
				}()
				synctest.Wait()
				if took := abortRepeatedly(t, s); took < tt.want || took > tt.want+2*timerTick {
					t.Errorf("it took %s, want %s", took, tt.want)
				}
			})
		})
	}
}

// watchedLate is a rawConn whose stream is woken just before it is watched.
type watchedLate struct {
	*client
	wake func()
}

func (c watchedLate) watch(w watcher) {
	c.wake()
	synctest.Wait()
	c.client.watch(w)
}

// A connection that is written can be closed, and its descriptor can belong to
// another connection by the time that it is watched.
func TestAConnectionIsNotWrittenBeforeItIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beside := serve(t, Options{})
		s, err := beside.server.Session(Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		c := newClient()
		if ok, err := s.writeOpening(newResponse(c)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		c.before(func() {
			if c.stream == nil {
				t.Error("it is written before it is watched")
			}
		})
		c.take()
		beside.server.writers.adoptNow(s, watchedLate{c, func() { beside.publish(t, "a", "1") }})
		synctest.Wait()
		if got := c.take(); len(got) != 1 || got[0] != "id: ID\ndata: 1\n\n" {
			t.Errorf("flushed %q", got)
		}
	})
}
