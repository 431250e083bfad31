package broker

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

// A reader that is stalled in a write holds the segment that it is in, and not
// all that is published behind it.
func TestStalledReaderDoesNotHoldWhatLeaves(t *testing.T) {
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for name, turn := range map[string]func(b *Broker){
		"trimmed": func(*Broker) {},
		"purged":  func(b *Broker) { mustPublish(t, b, Op{Kind: KindPurge, Channel: "a"}) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.History = Policy{Events: Unlimited, Bytes: 1 << 20}
			b, err := New(NewMemory(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			data := bytes.Repeat([]byte("x"), 32<<10)
			before := heap()
			var readers []*Subscription
			for range 64 {
				sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}})
				if err != nil {
					t.Fatal(err)
				}
				readers = append(readers, sub)
				for range 32 {
					mustPublish(t, b, Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: data}})
					var batch Batch
					if len(readers)%8 == 0 { // in the segments of now
						if err := sub.Read(&batch); err != nil {
							t.Fatal(err)
						}
					}
				}
				turn(b)
			}
			// 64 MiB went through a channel that keeps 1 MiB.
			if held := heap() - before; held > 12<<20 {
				t.Errorf("%d MiB are held", held>>20)
			}
			for _, sub := range readers {
				var batch Batch
				for batch.More = true; batch.More; {
					if err := sub.Read(&batch); err != nil {
						t.Fatal(err)
					}
				}
				if got := sub.Cursor(); got != b.Head() {
					t.Errorf("a reader that goes on is at %s, the head at %s", got, b.Head())
				}
				sub.Close()
			}
		})
	}
}

func mustPublish(t testing.TB, b *Broker, op Op) {
	t.Helper()
	if _, err := b.Publish(t.Context(), []Op{op}); err != nil {
		t.Fatal(err)
	}
}

// While a pattern is filled back, the channels that it is filled from may yield
// to it: their newest events come all the same.
func TestFillingBackReadsOnWhereChannelsYield(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxBytes, cfg.History.Bytes = 32<<10, 32<<10
	b, err := New(NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var newest ID
	for range 200 {
		newest = publish(t, b, "a", string(bytes.Repeat([]byte("x"), 180)))
	}
	sub := subscribe(t, b, Start{Earliest: true}, "**")
	var last ID
	for batch := (Batch{More: true}); batch.More; {
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if !batch.Last.IsZero() {
			last = batch.Last
		}
	}
	if last != newest {
		t.Errorf("the last event is %s, want %s", last, newest)
	}
}
