package evstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// BenchmarkAttack measures what an honest caller gets before and while others attack
// the tables that all share, with default limits: the 50th and 99th percentile of a
// publish with a key, and the 99th of a subscription and of a value's write. "busy" is
// beside as many loops that ask the server for something else.
//
//	go test . -run xxx -bench Attack -benchtime 1x
func BenchmarkAttack(b *testing.B) {
	list := func(c *caller, n int) { c.do("GET", "/live/_channels?limit=1&after=greedy", "") }
	for _, tt := range []struct {
		name  string
		fill  int // channels before
		loops int
		step  func(c *caller, n int)
	}{
		{"lists", 100_000, 16, list},
		{"patterns", 0, 4, func(c *caller, n int) { c.hold(numbered("*a%d/x", 10*n, 10)...) }},
		{"channels", 0, 4, func(c *caller, n int) { c.do("POST", fmt.Sprintf("/live/greedy/%d", n), "x") }},
		{"values", 0, 4, func(c *caller, n int) { c.do("PUT", fmt.Sprintf("/live/greedy/%d", n), "1") }},
		{"names", 0, 4, func(c *caller, n int) { c.hold(numbered("greedy/%d", 100*n, 100)...) }},
		{"keys", 0, 1, func(c *caller, n int) {
			c.do("POST", "/live/greedy", benchLines, "Content-Type: application/x-ndjson", fmt.Sprint("Idempotency-Key: ", n))
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			second := time.Second
			if testing.Short() {
				second = 50 * time.Millisecond // shows that it runs
			}
			e := serveCaddy(b, newSiteConfig(withRules("anyone subscribe,publish,state **"), func(c *siteConfig) {
				c.handler.OnOverload = "503"
			}))
			for i := range tt.fill {
				if _, err := e.hub.Broker().Publish(b.Context(), []broker.Op{{
					Kind: broker.KindEvent, Channel: fmt.Sprintf("greedy/%d", i), Event: sse.Event{Data: []byte("x")},
				}}); err != nil {
					b.Fatal(err)
				}
			}
			honest := newCaller(b, e, honestAddress)
			for range b.N {
				before := honest.measure(b, 2*second)
				during := func(step func(*caller, int), settle time.Duration) *latencies {
					var over sync.WaitGroup
					ctx, stop := context.WithCancel(b.Context())
					defer func() { stop(); over.Wait() }()
					for i := range tt.loops {
						c := newCaller(b, e, fmt.Sprintf("198.51.100.%d", i+1))
						over.Go(func() {
							for n := i << 24; ctx.Err() == nil; n++ {
								step(c, n)
							}
						})
					}
					time.Sleep(settle)
					return honest.measure(b, 3*second)
				}
				// As many requests that do not concern the hub, for what is due to the
				// processors being busy: also with the clients, which are in this process.
				beside := during(func(c *caller, _ int) { c.do("GET", plainPath, "") }, 0)
				attacked := during(tt.step, 3*second) // it has filled what it can
				before.report(b, "before")
				beside.report(b, "busy")
				attacked.report(b, "attacked")
			}
		})
	}
}

var benchLines = strings.Repeat("x\n", 1_000_000)

// latencies are how long the honest caller's requests took, in order.
type latencies struct{ publish, subscribe, value []time.Duration }

func (l *latencies) report(b *testing.B, when string) {
	at := func(list []time.Duration, part float64) float64 {
		slices.Sort(list)
		return float64(list[int(part*float64(len(list)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(l.publish, 0.5), "publish-p50-ms-"+when)
	b.ReportMetric(at(l.publish, 0.99), "publish-p99-ms-"+when)
	b.ReportMetric(at(l.subscribe, 0.99), "subscribe-p99-ms-"+when)
	b.ReportMetric(at(l.value, 0.99), "value-p99-ms-"+when)
	b.ReportMetric(0, "ns/op")
}

// measure uses everything for a while, as one caller would: a round each 30 ms, within its connect rate.
func (c *caller) measure(b *testing.B, d time.Duration) *latencies {
	l := new(latencies)
	timed := func(list *[]time.Duration, method, path, body string, header ...string) {
		began := time.Now()
		if status, got := c.do(method, path, body, header...); status/100 != 2 {
			b.Fatalf("%s %s: %d %s", method, path, status, got)
		}
		*list = append(*list, time.Since(began))
	}
	round := 0
	pace := time.NewTicker(30 * time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-pace.C {
		round++
		timed(&l.publish, "POST", fmt.Sprintf("/live/honest/%d", round%10), "hello", fmt.Sprint("Idempotency-Key: ", time.Now().UnixNano()))
		timed(&l.subscribe, "GET", fmt.Sprintf("/live?poll=1&since=earliest&channel=honest/%d&channel=h*/%d", round%10, round%10), "")
		timed(&l.value, "PUT", fmt.Sprintf("/live/honest/%d", round%10), fmt.Sprint(round))
	}
	return l
}
