package broker

import (
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

// A log may have events of an earlier version, which took more ids. Clients would not
// send such an id back as it is.
func TestAnIDInTheLogThatWouldNotComeBackIsReplaced(t *testing.T) {
	b := newBroker(t)
	for _, id := range []string{" evstream.end", "a\x01b", "1-1"} {
		op := Op{Kind: KindEvent, Channel: "a", Event: sse.Event{ID: id, Data: []byte("x")}}
		if _, err := b.log.Append(t.Context(), []Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "a", Event: sse.Event{ID: "mine", Data: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}, Start: Start{Earliest: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	batch := Batch{Decode: true}
	if err := sub.Read(&batch); err != nil || len(batch.Deliveries) != 4 {
		t.Fatalf("%+v, %v", batch, err)
	}
	for i, d := range batch.Deliveries {
		if want := map[bool]string{true: "mine", false: d.ID.String()}[i == 3]; d.Event.ID != want && d.Event.ID != "" {
			t.Errorf("delivery %d has the id %q", i, d.Event.ID)
		}
	}
	if got := batch.Deliveries[3].Event.ID; got != "mine" {
		t.Errorf("the id that is one: %q", got)
	}
}
