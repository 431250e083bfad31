package boltadapter

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// benchDir is where the benchmarks write: TMPDIR should be on the disk that is meant.
func benchPublishers(b *testing.B, publishers int, publish func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := publish(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acked/s")
}

// BenchmarkAcknowledgedPublishes is how many publishes a second are acknowledged, durably,
// beside one transaction and sync of bbolt a publish.
func BenchmarkAcknowledgedPublishes(b *testing.B) {
	data := []byte(strings.Repeat("x", 200))
	for _, publishers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint("log/publishers=", publishers), func(b *testing.B) {
			l := openLog(b, testConfig(filepath.Join(b.TempDir(), "log")))
			follow(b, l).drop.Store(true)
			benchPublishers(b, publishers, func() error {
				_, err := l.Append(context.Background(), []broker.Op{{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: data}, History: hour()}})
				return err
			})
			s := l.Stats()
			b.ReportMetric(float64(s.Entries)/float64(s.Commits), "entries/commit")
			b.ReportMetric(float64(s.Written)/float64(s.Entries)/float64(len(data)), "written/payload")
		})
		b.Run(fmt.Sprint("transaction/publishers=", publishers), func(b *testing.B) {
			db, err := bolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			var n atomic.Uint64
			benchPublishers(b, publishers, func() error {
				return db.Update(func(tx *bolt.Tx) error {
					bucket, err := tx.CreateBucketIfNotExists([]byte("updates"))
					if err != nil {
						return err
					}
					return bucket.Put(binary.BigEndian.AppendUint64(nil, n.Add(1)), data)
				})
			})
		})
	}
}

// BenchmarkFanOut publishes one event after the other to 10,000 subscriptions, on this log
// and on that in memory, and tells how fast they read it, from the first of them to the
// last: the disk is waited for before that.
func BenchmarkFanOut(b *testing.B) {
	for _, kind := range []string{"memory", "disk"} {
		b.Run(kind, func(b *testing.B) {
			var log broker.Log = broker.NewMemory()
			if kind == "disk" {
				log = openLog(b, testConfig(filepath.Join(b.TempDir(), "log")))
			}
			e, err := broker.New(log, broker.DefaultConfig())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = e.Close() }()
			const readers = 10_000
			reading := &readingRound{all: make(chan time.Duration)}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range readers {
				sub, err := e.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}})
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() { reading.drain(stop, sub, readers) })
			}
			var took time.Duration
			b.ResetTimer()
			for range b.N {
				op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("0123456789")}}
				if _, err := e.Publish(context.Background(), []broker.Op{op}); err != nil {
					b.Fatal(err)
				}
				took += <-reading.all
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*readers/took.Seconds(), "deliveries/s")
			close(stop)
			wg.Wait()
		})
	}
}

// readingRound is the reading of one event by many subscriptions.
type readingRound struct {
	read  atomic.Int64
	first atomic.Int64 // when the first of them had it, in Unix nanoseconds
	all   chan time.Duration
}

// drain reads what a subscription has, until stop. Of each event the last of the readers
// tells how long all took.
func (r *readingRound) drain(stop <-chan struct{}, sub *broker.Subscription, readers int64) {
	var batch broker.Batch
	for {
		select {
		case <-stop:
			return
		case <-sub.Wake():
		}
		for more := true; more; more = batch.More {
			if sub.Read(&batch) != nil {
				return
			}
			for range batch.Events {
				switch r.read.Add(1) % readers {
				case 1:
					r.first.Store(time.Now().UnixNano())
				case 0:
					r.all <- time.Duration(time.Now().UnixNano() - r.first.Load())
				}
			}
		}
	}
}

// BenchmarkRestart opens a log with a million entries of about 300 bytes, and has a broker
// apply them.
func BenchmarkRestart(b *testing.B) {
	entries, size := 1_000_000, 250
	if testing.Short() { // that it runs is enough
		entries = 50_000
	}
	dir := filepath.Join(b.TempDir(), "log")
	l := openLog(b, testConfig(dir))
	ops := make([]broker.Op, 1000)
	policy := broker.DefaultConfig().History
	for n := 0; n < entries; n += len(ops) {
		for i := range ops {
			ops[i] = broker.Op{
				Kind: broker.KindEvent, Channel: fmt.Sprint("channel/", (n+i)%2000), History: policy,
				Event: sse.Event{Data: []byte(strings.Repeat("x", size))},
			}
		}
		appended(b, l, ops...)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := Open(testConfig(dir))
		if err != nil {
			b.Fatal(err)
		}
		cfg := broker.DefaultConfig()
		cfg.MaxBytes = 1 << 30
		e, err := broker.New(l, cfg)
		if err != nil {
			b.Fatal(err)
		}
		resumed := time.Now()
		if err := e.Reach(b.Context(), broker.Start{LastEventID: broker.ID{Ms: e.Head().Ms - 20}.String()}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(resumed).Microseconds()), "us/resume")
		eventually(b, "the log to be loaded", e.Complete)
		if err := l.Stats().Failed; err != nil {
			b.Fatal(err)
		}
		s := l.Stats()
		if s.Loaded != uint64(entries) {
			b.Fatalf("%d entries were loaded", s.Loaded)
		}
		b.ReportMetric(s.Opened.Seconds(), "s/open")
		b.ReportMetric(s.LoadTime.Seconds(), "s/load")
		b.ReportMetric(float64(s.SegmentBytes)/(1<<20), "MiB")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapSys)/(1<<20), "heapMiB")
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		_ = l.Close()
	}
}
