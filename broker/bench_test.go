package broker

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

var benchData = []byte(`{"match":"Arsenal vs Chelsea","homeScore":2,"awayScore":1,"minute":67,"text":"1234567890"}`)

func benchOps(name string) []Op {
	return []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Type: "score", Data: benchData}}}
}

// BenchmarkFanout publishes to readers that each run in a goroutine, and ends
// when the last has everything. An op is one publish; readers fall behind and
// catch up, as they do on sockets.
func BenchmarkFanout(b *testing.B) {
	for _, subs := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			hub := newBroker(b)
			stop := make(chan struct{})
			var got atomic.Int64
			var readers sync.WaitGroup
			for range subs {
				s := subscribe(b, hub, Start{}, "a")
				readers.Go(func() {
					var batch Batch
					for {
						select {
						case <-stop:
							return
						case <-s.Wake():
						}
						for more := true; more; more = batch.More {
							if s.Read(&batch) != nil {
								return
							}
							got.Add(int64(batch.Events))
						}
					}
				})
			}
			ops, ctx, published := benchOps("a"), context.Background(), int64(0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := hub.Publish(ctx, ops); err != nil {
					b.Fatal(err)
				}
				published++
				for published*int64(subs)-got.Load() > int64(subs)*500 {
					runtime.Gosched() // stay within the history
				}
			}
			for got.Load() < published*int64(subs) {
				runtime.Gosched()
			}
			b.ReportMetric(float64(got.Load())/b.Elapsed().Seconds(), "deliveries/s")
			close(stop)
			readers.Wait()
		})
	}
}

// BenchmarkPublish appends to channels that nobody reads, or one reader each.
func BenchmarkPublish(b *testing.B) {
	for _, channels := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			hub := newBroker(b)
			ops := make([][]Op, channels)
			for i := range ops {
				ops[i] = benchOps(fmt.Sprintf("c%05d", i))
				subscribe(b, hub, Start{}, ops[i][0].Channel)
			}
			ctx, i := context.Background(), 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := hub.Publish(ctx, ops[i%channels]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkDeliver is one delivery: a read of one new event, by one of many
// readers of the same history.
func BenchmarkDeliver(b *testing.B) {
	hub := newBroker(b)
	const subs = 1000
	var readers []*Subscription
	for range subs {
		readers = append(readers, subscribe(b, hub, Start{}, "a"))
	}
	ops, ctx := benchOps("a"), context.Background()
	var batch Batch
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%subs == 0 {
			b.StopTimer()
			if _, err := hub.Publish(ctx, ops); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if err := readers[i%subs].Read(&batch); err != nil || batch.Events != 1 {
			b.Fatal(err, batch.Events)
		}
	}
}

func TestADeliveryDoesNotAllocate(t *testing.T) {
	hub := newBroker(t)
	ctx := context.Background()
	var readers []*Subscription
	for range 100 {
		readers = append(readers, subscribe(t, hub, Start{}, "a"), subscribe(t, hub, Start{}, "a", "b", "c"))
	}
	var batch Batch
	round := func(read bool) float64 {
		return testing.AllocsPerRun(200, func() {
			if _, err := hub.Publish(ctx, benchOps("a")); err != nil {
				t.Fatal(err)
			}
			for _, s := range readers {
				if !read {
					continue
				}
				if err := s.Read(&batch); err != nil || batch.Events == 0 {
					t.Fatal(err, batch.Events)
				}
			}
		})
	}
	publishing := round(false)
	for _, s := range readers {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
	}
	if both := round(true); both > publishing+1 {
		t.Errorf("a publish allocates %.0f times, and with 200 deliveries %.0f times", publishing, both)
	}
}
