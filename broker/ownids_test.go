package broker

import (
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

// A reader of own IDs gets those of publishers, and none of the hub.
func TestOwnIDsAreThoseOfPublishers(t *testing.T) {
	b := newBroker(t)
	s, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}, OwnIDs: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	publish(t, b, "a", "one")
	if _, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "a", Event: sse.Event{ID: "mine", Data: []byte("two")}}}); err != nil {
		t.Fatal(err)
	}
	var batch Batch
	if err := s.Read(&batch); err != nil {
		t.Fatal(err)
	}
	if got := string(batch.Bytes); got != "data: one\n\nid: mine\ndata: two\n\n" {
		t.Errorf("%q", got)
	}
}
