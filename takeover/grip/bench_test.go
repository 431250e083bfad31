package grip

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// What it costs to make one event for one stream: as it is, the bytes of the history are
// shared, and nothing is made.
func BenchmarkRewrite(b *testing.B) {
	event := broker.Delivery{Channel: "a", Event: sse.Event{ID: "%I", Type: "message", Data: []byte(`{"text":"hello, this is a message of a hundred bytes or so, as a chat has it; %% of it"}`)}}
	for name, channel := range map[string]string{"linked": "a", "build-id": "a; filter=build-id"} {
		i, err := ReadInstruct(headersOf("Grip-Hold: stream\nGrip-Channel: " + channel + "\nGrip-Link: <x>; rel=next\nGrip-Set-Meta: id_format=\"a:%(a)s\""))
		if err != nil {
			b.Fatal(err)
		}
		it := &item{channel: "a", id: "1", filters: contentFilters(i.Channels[0].Filters), hasFilters: true}
		e := event
		if e.Filter, err = it.audience(); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			s := newSession(i, access.AnonymousCaller(), slog.Default())
			events := []broker.Delivery{e}
			var dst []byte
			for b.Loop() {
				if dst, _ = s.Rewrite(dst[:0], events); len(dst) == 0 {
					b.Fatal("nothing is sent")
				}
			}
		})
	}
	b.Run("baseline: encoding it", func(b *testing.B) {
		var dst []byte
		for b.Loop() {
			dst = sse.AppendEvent(dst[:0], &event.Event)
		}
	})
}
