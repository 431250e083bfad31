package redisadapter

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/sse"
)

// keptPolicy is a policy that keeps events.
var keptPolicy = broker.Policy{Events: 1000, Age: time.Hour, Bytes: 16 << 20}

// counter is a Follower that does nothing but count.
type counter struct {
	n     int
	ready chan struct{}
}

func (c *counter) Start(broker.Origin)             {}
func (c *counter) Apply(entries []broker.Entry)    { c.n += len(entries) }
func (c *counter) Older([]broker.Entry, broker.ID) {}
func (c *counter) Ready()                          { close(c.ready) }
func (c *counter) Cut(error)                       {}

// fill appends n events of 200 bytes, to one channel of each policy in turn.
func fill(b *testing.B, log *Log, n int, policies ...broker.Policy) {
	b.Helper()
	const writers, batch = 4, 500
	data := make([]byte, 200)
	for i := range data {
		data[i] = 'x'
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < n/writers; i += batch {
				ops := make([]broker.Op, batch)
				for j := range ops {
					p := (w + i + j) % len(policies)
					ops[j] = broker.Op{
						Kind: broker.KindEvent, Channel: fmt.Sprint("channel-", p), History: policies[p], Rules: 1,
						Event: sse.Event{Type: "update", Data: data},
					}
				}
				if _, err := log.Append(context.Background(), ops); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkIngest measures how fast a node applies the entries of a log. A cluster
// cannot publish faster.
func BenchmarkIngest(b *testing.B) {
	for _, policies := range [][]broker.Policy{
		{keptPolicy},
		{keptPolicy, {Events: 10, Age: time.Hour, Bytes: 1 << 20}, {Events: 20, Age: time.Hour, Bytes: 1 << 20}, {Events: 30, Age: time.Hour, Bytes: 1 << 20}},
	} {
		b.Run(fmt.Sprintf("streams=%d", len(policies)), func(b *testing.B) {
			n := 500_000
			if testing.Short() { // that it runs is enough
				n /= 25
			}
			server := redistest.Start(b)
			log := openLog(b, logConfig(server, b))
			fill(b, log, n, policies...)
			b.ReportAllocs()
			for b.Loop() {
				c := &counter{ready: make(chan struct{})}
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- log.Follow(ctx, c) }()
				<-c.ready
				b.StopTimer()
				cancel()
				<-ended
				if c.n != n {
					b.Fatalf("%d events, want %d", c.n, n)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
