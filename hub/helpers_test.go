package hub

import (
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// subscription reads channels.
func subscription(channels ...string) broker.SubscribeOptions {
	return broker.SubscribeOptions{Channels: channels}
}

// testHub is a hub on a log in memory.
func testHub(t testing.TB, c Config) *Hub {
	t.Helper()
	return hubOn(t, broker.NewMemory(), c)
}

// hubOn is a hub on a log.
func hubOn(t testing.TB, log broker.Log, c Config) *Hub {
	t.Helper()
	h, err := Open(log, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// testSession is a stream that nobody serves, and that is not in the hub.
func testSession(t testing.TB, h *Hub, address string) *Session {
	t.Helper()
	s, err := h.NewStream(stream.Options{Subscribe: subscription("a")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(stream.ReasonClient) })
	return &Session{Stream: s, Address: address}
}

// addFor takes in a stream that a caller reads.
func addFor(h *Hub, s *Session, who *access.Caller) error {
	return h.Add(s, Standing{Caller: who.Kept()})
}

// add takes in a stream of an anonymous caller.
func add(h *Hub, s *Session) error { return addFor(h, s, access.AnonymousCaller()) }

// refusedWith checks the status of the problem that an error is to a client.
func refusedWith(t testing.TB, err error, status int) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if got := problem.Of(err).Status(); got != status {
		t.Fatalf("got %d (%v), want %d", got, err, status)
	}
}
