package evstream

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// subscription reads channels.
func subscription(channels ...string) broker.SubscribeOptions {
	return broker.SubscribeOptions{Channels: channels}
}

// testHub is a hub outside of any configuration.
func testHub(t testing.TB, c BrokerConfig) *hub {
	t.Helper()
	s, err := c.settings()
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHub(hubKey{name: "test"}, MemoryAdapter{}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Destruct(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// testLive is a stream that nobody serves.
func testLive(t *testing.T, h *hub, address string) *live {
	t.Helper()
	session, err := h.server.Session(stream.Options{Subscribe: subscription("a")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close(stream.ReasonClient) })
	return &live{session: session, endpoint: &endpoint{hub: h}, who: nobody, address: address}
}

func TestAddressMayHaveSoManyStreamsAndLoopbackAny(t *testing.T) {
	h := testHub(t, BrokerConfig{MaxConnectionsPerIP: 2})
	first := testLive(t, h, "192.0.2.1")
	for i, l := range []*live{first, testLive(t, h, "::ffff:192.0.2.1")} {
		if err := h.add(l); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1"} {
		if err := h.add(testLive(t, h, address)); !errors.Is(err, errTooManyFromAddress) {
			t.Errorf("third stream of %s: got %v", address, err)
		}
	}
	for range 3 {
		for _, address := range []string{"127.0.0.1", "::1", "127.8.8.8", "@", ""} {
			if err := h.add(testLive(t, h, address)); err != nil {
				t.Errorf("stream of %q: %v", address, err)
			}
		}
	}
	if err := h.add(testLive(t, h, "192.0.2.2")); err != nil {
		t.Errorf("another address: %v", err)
	}
	for range 2 { // the second time it is not in any more
		h.remove(first)
	}
	if err := h.add(testLive(t, h, "192.0.2.1")); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	if err := h.add(testLive(t, h, "192.0.2.1")); !errors.Is(err, errTooManyFromAddress) {
		t.Errorf("and one more: got %v", err)
	}
	if n := h.refusals["max_connections_per_ip"]; n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
}

func TestAddressLimitHoldsWhenManyComeAtOnce(t *testing.T) {
	h := testHub(t, BrokerConfig{MaxConnectionsPerIP: 10})
	var coming sync.WaitGroup
	for range 100 {
		l := testLive(t, h, "192.0.2.1")
		coming.Go(func() { _ = h.add(l) })
	}
	coming.Wait()
	if n := len(h.list()); n != 10 {
		t.Errorf("%d streams are in, want 10", n)
	}
	for _, l := range h.list() {
		h.remove(l)
	}
	if len(h.addresses) != 0 {
		t.Errorf("addresses are left: %v", h.addresses)
	}
}

func TestHubThatExitsTakesInNothing(t *testing.T) {
	h := testHub(t, BrokerConfig{})
	in := testLive(t, h, "192.0.2.1")
	if err := h.add(in); err != nil {
		t.Fatal(err)
	}
	if h.draining() {
		t.Error("it drains already")
	}
	for range 2 {
		h.leave(0)
	}
	if !h.draining() {
		t.Error("it does not drain")
	}
	if err := h.add(testLive(t, h, "192.0.2.1")); !errors.Is(err, errExiting) {
		t.Errorf("got %v", err)
	}
	<-in.session.Done()
	if got := in.session.Reason(); got != stream.ReasonShutdown {
		t.Errorf("the stream ended for %q", got)
	}
}

func TestDestructEndsTheStreamsAndLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := new(BrokerConfig).settings()
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHub(hubKey{name: "test"}, MemoryAdapter{}, s)
	if err != nil {
		t.Fatal(err)
	}
	l := testLive(t, h, "192.0.2.1")
	if err := h.add(l); err != nil {
		t.Fatal(err)
	}
	if err := h.Destruct(); err != nil {
		t.Fatal(err)
	}
	<-l.session.Done()
	noHubs(t)
}

// piped is a response that goes straight to a connection.
type piped struct {
	net.Conn
	header http.Header
}

func (p piped) Header() http.Header { return p.header }
func (piped) WriteHeader(int)       {}
func (piped) Flush()                {}

// A stream that is not stalled yet when it is first pressed does not get the time
// of a write for what it is to write then.
func TestAStreamIsPressedUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		server := stream.NewServer(b)
		s, err := server.Session(stream.Options{Subscribe: subscription("a")})
		if err != nil {
			t.Fatal(err)
		}
		client, conn := net.Pipe()
		served := make(chan error)
		go func() {
			served <- s.Serve(piped{conn, http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil))
		}()
		if _, err := client.Read(make([]byte, 4<<10)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begun := time.Now()
		press(s) // nothing is stalled
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("1")}}
		if _, err := b.Publish(t.Context(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*exitSlack || s.Reason() != stream.ReasonSlow {
			t.Errorf("it ended for %q after %s", s.Reason(), took)
		}
		server.Close()
		if err := errors.Join(b.Close(), client.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	})
}
