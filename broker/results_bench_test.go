package broker

import (
	"context"
	"testing"
	"time"
)

// BenchmarkPublishCounted is what metrics cost a publish: "publish" is all of it, to a
// channel of each goroutine that nobody reads, and "counting" what is counted of one, by
// itself. They run on all processors at a time, since the counters are shared.
func BenchmarkPublishCounted(b *testing.B) {
	hub := newBroker(b)
	b.Run("publish", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			ops := benchOps("a")
			for pb.Next() {
				if _, err := hub.Publish(context.Background(), ops); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("counting", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			ops, results := benchOps("a"), make([]Result, 1)
			for pb.Next() {
				began := time.Now()
				hub.publishes.appends.Observe(time.Since(began))
				hub.publishes.count(ops, results, nil)
			}
		})
	})
}
