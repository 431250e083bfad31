package hub

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

func TestAddressMayHaveSoManyStreamsAndLoopbackAny(t *testing.T) {
	h := testHub(t, Config{MaxPerAddress: 2})
	first := testSession(t, h, "192.0.2.1")
	for i, s := range []*Session{first, testSession(t, h, "::ffff:192.0.2.1")} {
		if err := add(h, s); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	// refused counts a refusal, as who turns the subscriber away does.
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrTooManyFromAddress) {
			t.Errorf("%s: got %v", what, err)
		}
		h.Refused(err)
	}
	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1"} {
		refused("third stream of "+address, add(h, testSession(t, h, address)))
	}
	for range 3 {
		for _, address := range []string{"127.0.0.1", "::1", "127.8.8.8", "@", ""} {
			if err := add(h, testSession(t, h, address)); err != nil {
				t.Errorf("stream of %q: %v", address, err)
			}
		}
	}
	if err := add(h, testSession(t, h, "192.0.2.2")); err != nil {
		t.Errorf("another address: %v", err)
	}
	for range 2 { // the second time it is not in any more
		h.Remove(first)
	}
	if err := add(h, testSession(t, h, "192.0.2.1")); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	refused("and one more", add(h, testSession(t, h, "192.0.2.1")))
	if n := h.Stats().Refusals["max_connections_per_ip"]; n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
}

func TestAddressLimitHoldsWhenManyComeAtOnce(t *testing.T) {
	h := testHub(t, Config{MaxPerAddress: 10})
	var coming sync.WaitGroup
	for range 100 {
		s := testSession(t, h, "192.0.2.1")
		coming.Go(func() { _ = add(h, s) })
	}
	coming.Wait()
	if n := len(h.Sessions()); n != 10 {
		t.Errorf("%d streams are in, want 10", n)
	}
	for _, s := range h.Sessions() {
		h.Remove(s)
	}
	if len(h.addresses) != 0 {
		t.Errorf("addresses are left: %v", h.addresses)
	}
}

// A stream that is taken out before it was served has not ended: nobody was
// disconnected.
func TestOnlyStreamsThatEndedAreCountedAsDisconnected(t *testing.T) {
	h := testHub(t, Config{})
	withdrawn, ended := testSession(t, h, "192.0.2.1"), testSession(t, h, "192.0.2.1")
	for _, s := range []*Session{withdrawn, ended} {
		if err := add(h, s); err != nil {
			t.Fatal(err)
		}
	}
	withdrawn.Stream.Close(stream.ReasonReload) // before it was served
	h.Withdraw(withdrawn)
	ended.Stream.Close(stream.ReasonClient)
	h.Remove(ended)
	if got := h.Stats().Disconnects; len(got) != 1 || got[stream.ReasonClient] != 1 {
		t.Errorf("counted are %v", got)
	}
}

func TestClosingEndsTheStreamsAndLeavesNothing(t *testing.T) {
	defer leaktest.VerifyNone(t, goleak.IgnoreCurrent())
	h, err := Open(broker.NewMemory(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := testSession(t, h, "192.0.2.1")
	if err := add(h, s); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.Stream.Done()
}

func TestAConfigurationThatIsRefusedChangesNothing(t *testing.T) {
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	h := testHub(t, Config{Name: "a", Logger: logger, MaxPerAddress: 3})
	bad := Config{Name: "b", MaxPerAddress: 4, ConnectRate: Rate{PerSecond: 1, Burst: 1}, Broker: broker.DefaultConfig()}
	bad.Broker.MaxEvent = 0
	if err := h.SetConfig(bad); err == nil {
		t.Error("it is not refused")
	}
	if got := h.Config(); got.MaxPerAddress != 3 || got.Name != "a" {
		t.Errorf("it is %+v", got)
	}
	for range 2 {
		if err := h.MayConnect("192.0.2.1"); err != nil {
			t.Error(err)
		}
	}
	bad.Broker.MaxEvent = 1
	if err := h.SetConfig(bad); err != nil {
		t.Error(err)
	}
	if got := h.Config(); got.MaxPerAddress != 4 || got.Name != "a" || got.Logger != logger || got.Broker.Logger != logger {
		t.Errorf("it is %+v", got)
	}
}

// failingLog is a log that cannot be closed well.
type failingLog struct {
	*broker.MemoryLog
	closed int
}

var errClosing = errors.New("the disk is gone")

func (l *failingLog) Close() error {
	l.closed++
	return errors.Join(l.MemoryLog.Close(), errClosing)
}

func TestAHubMayBeClosedTwice(t *testing.T) {
	log := &failingLog{MemoryLog: broker.NewMemory()}
	h, err := Open(log, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var closing sync.WaitGroup
	for range 10 {
		closing.Go(func() {
			if err := h.Close(); !errors.Is(err, errClosing) {
				t.Errorf("got %v", err)
			}
		})
	}
	closing.Wait()
	if log.closed != 1 {
		t.Errorf("the log was closed %d times", log.closed)
	}
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
