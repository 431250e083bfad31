package evstream

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/stream"
)

func TestDestructEndsTheStreamsAndLeavesNothing(t *testing.T) {
	defer leaktest.VerifyNone(t, goleak.IgnoreCurrent())
	h, err := newOpenHub(hubKey{name: "test"}, MemoryAdapter{}, hub.Config{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Add(&hub.Session{Stream: s, Address: "192.0.2.1"}, hub.Standing{Caller: access.AnonymousCaller()}); err != nil {
		t.Fatal(err)
	}
	if theHub(t, "test") != h.Hub {
		t.Error("another hub is in the pool")
	}
	if err := h.Destruct(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	noHubs(t)
}
