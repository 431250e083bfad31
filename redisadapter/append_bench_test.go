package redisadapter

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// BenchmarkAppend measures how many events of 200 bytes a node appends to Redis,
// one in each Append. us/event is the server's time for one: it can take a million
// divided by that each second.
func BenchmarkAppend(b *testing.B) {
	one := func(int64) broker.Op { return kept(event("football/match.7", data)) }
	for _, form := range []struct {
		name string
		op   func(i int64) broker.Op
	}{
		{"events", one},
		{"followed", one}, // and applied by this node before Append returns
		{"keyed", func(i int64) broker.Op {
			return keyed(kept(event("football/match.7", data)), strconv.FormatInt(i, 10))
		}},
		{"state", func(i int64) broker.Op { return set("football/match.7", fmt.Sprintf(`{"n":%d,"s":%q}`, i, data)) }},
	} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/writers=%d", form.name, writers), func(b *testing.B) {
				s := redistest.Start(b)
				log := openLog(b, testConfig(s.Addr()))
				appendAll(b, log, form.op(-1))
				if form.name == "followed" {
					c := &counter{ready: make(chan struct{})}
					ctx, cancel := context.WithCancel(context.Background())
					ended := make(chan error, 1)
					go func() { ended <- log.Follow(ctx, c) }()
					<-c.ready
					defer func() {
						cancel()
						<-ended
					}()
				}
				calls, took := scripted(b, s)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							if _, err := log.Append(context.Background(), []broker.Op{form.op(i)}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				more, longer := scripted(b, s)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				b.ReportMetric((longer-took)/float64(b.N), "us/event")
				b.ReportMetric(float64(b.N)/(more-calls), "events/script")
			})
		}
	}
}

// BenchmarkBatch measures a script with as many events as it may have.
func BenchmarkBatch(b *testing.B) {
	s := redistest.Start(b)
	log := openLog(b, testConfig(s.Addr()))
	ops := make([]broker.Op, maxBatch)
	appendAll(b, log, kept(event("a", "")))
	calls, took := scripted(b, s)
	for b.Loop() {
		for i := range ops {
			ops[i] = kept(event("football/match.7", data))
		}
		appendAll(b, log, ops...)
	}
	more, longer := scripted(b, s)
	b.ReportMetric((longer-took)/(more-calls), "us/script")
}

var data = strings.Repeat("x", 200)

var evalStats = regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+),usec=(\d+)`)

// scripted is how many scripts a server has run, and for how many microseconds.
func scripted(b *testing.B, s *redistest.Server) (calls, took float64) {
	b.Helper()
	info, err := s.Client().Info(context.Background(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range evalStats.FindAllStringSubmatch(info, -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		us, _ := strconv.ParseFloat(m[2], 64)
		calls, took = calls+n, took+us
	}
	return calls, took
}
