package hub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/stream"
)

// A session of any node joins a channel, by who may use the sessions of everybody.
func ExampleHub_JoinSession() {
	h, err := hub.Open(broker.NewMemory(), hub.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	s, err := h.NewStream(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"lobby"}}})
	if err != nil {
		log.Fatal(err)
	}
	session := &hub.Session{Stream: s}
	if err := h.Add(session, hub.Standing{Caller: access.AnonymousCaller()}); err != nil { // and it is served
		log.Fatal(err)
	}
	reads, err := h.JoinSession(context.Background(), s.ID(), "rooms/1", broker.Start{}, hub.Asker{
		Caller: &access.Caller{Name: "backend"}, Within: []string{"**"},
	})
	fmt.Println(reads, err)
	// Output: [lobby rooms/1] <nil>
}

// watched shows WatchReaders.
func watched(h *hub.Hub) (func(), error) {
	stop, err := h.WatchReaders("rooms/**", func(c hub.ReaderChange) {
		log.Println(c.Session.Stream.ID(), c.Channel, c.Left)
	})
	return stop, err
}

var _ = watched
