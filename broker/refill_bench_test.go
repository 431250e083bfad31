package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// BenchmarkRefill tells how long a publish waits for a refill of a pattern that 90,000
// channels match: in one go, with Broker.mu held, and in steps.
func BenchmarkRefill(b *testing.B) {
	const channels, batch = 90_000, 1000
	cfg := DefaultConfig()
	cfg.MaxChannels, cfg.MaxBytes = 2*channels, 1<<30
	hub, err := New(NewMemory(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer hub.Close()
	for first := 0; first < channels; first += batch {
		var ops []Op
		for i := range batch {
			ops = append(ops, Op{Kind: KindEvent, Channel: fmt.Sprintf("match/%d/score", first+i), Event: sse.Event{Data: benchData}})
		}
		if _, err := hub.Publish(context.Background(), ops); err != nil {
			b.Fatal(err)
		}
	}
	const pattern = "match/**"
	held := func() {
		hub.mu.Lock()
		defer hub.mu.Unlock()
		p, err := hub.feedOf(pattern, 0)
		if err != nil {
			b.Error(err)
			return
		}
		hub.refill(p, ID{})
		hub.removePattern(p)
	}
	inSteps := func() {
		s, err := hub.Subscribe(SubscribeOptions{Channels: []string{pattern}, Start: Start{Earliest: true}})
		if err != nil {
			b.Error(err)
			return
		}
		s.Close()
		hub.mu.Lock()
		defer hub.mu.Unlock()
		hub.removePattern(hub.patterns[pattern])
	}
	for _, way := range []struct {
		name   string
		refill func()
	}{{"none", func() { time.Sleep(100 * time.Millisecond) }}, {"held", held}, {"steps", inSteps}} {
		b.Run(way.name, func(b *testing.B) {
			var waits []time.Duration
			var took time.Duration
			for b.Loop() {
				done := make(chan struct{})
				began := time.Now()
				go func() {
					defer close(done)
					way.refill()
				}()
				for going := true; going; {
					before := time.Now()
					if _, err := hub.Publish(context.Background(), benchOps("other")); err != nil {
						b.Fatal(err)
					}
					waits = append(waits, time.Since(before))
					select {
					case <-done:
						going = false
					case <-time.After(100 * time.Microsecond):
					}
				}
				took += time.Since(began)
			}
			slices.Sort(waits)
			ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
			b.ReportMetric(ms(waits[len(waits)-1]), "longest-ms")
			b.ReportMetric(ms(waits[len(waits)*99/100]), "p99-ms")
			b.ReportMetric(ms(took)/float64(b.N), "refill-ms")
		})
	}
}
