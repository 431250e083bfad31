package boltadapter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// BenchmarkSteadyState appends 5,000 events of 200 bytes a second, each with one of the
// values and every tenth with an idempotency key, whose age is a sixth of the run, so
// that segments are removed all the time. An operation is a second of it: run it with
// -benchtime 120x or more. It tells what was written to the disk for each byte of payload,
// and how large the directory became.
func BenchmarkSteadyState(b *testing.B) {
	const rate, size = 5000, 200
	dir := b.TempDir()
	l := openLog(b, testConfig(filepath.Join(dir, "log")))
	follow(b, l).drop.Store(true)
	policy := broker.Policy{Events: 1000, Bytes: 1 << 20, Age: max(time.Duration(b.N)*time.Second/6, time.Second)}
	data := []byte(strings.Repeat("x", size))
	began, before, largest, n := time.Now(), writtenBytes(b, dir), int64(0), 0
	pace := time.NewTicker(200 * time.Microsecond)
	defer pace.Stop()
	b.ResetTimer()
	for time.Since(began) < time.Duration(b.N)*time.Second {
		due := int(time.Since(began).Seconds()*rate) - n
		if due <= 0 {
			<-pace.C
			continue
		}
		ops := make([]broker.Op, 0, due+1)
		for i := range min(due, 1000) {
			op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: data}, History: policy}
			if i%10 == 0 && b.N < 300 { // keys keep segments for five minutes
				op.Except = "s"
			} else if i%10 == 0 {
				op.Key = broker.Key{Identity: "me", Key: fmt.Sprint(n + i)}
			}
			ops = append(ops, op)
		}
		n += len(ops)
		ops = append(ops, set(fmt.Sprint("v", n%1000), fmt.Sprint(n)))
		if _, err := l.Append(context.Background(), ops); err != nil {
			b.Fatal(err)
		}
		largest = max(largest, l.Stats().Size)
	}
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "events/s")
	b.ReportMetric(float64(writtenBytes(b, dir)-before)/float64(n*size), "disk/payload")
	b.ReportMetric(float64(s.Written)/float64(n*size), "segments/payload")
	b.ReportMetric(float64(s.Entries)/float64(s.Commits), "entries/commit")
	b.ReportMetric(float64(largest)/(1<<20), "MiB-largest")
	b.ReportMetric(float64(s.Size)/(1<<20), "MiB-last")
	b.ReportMetric(float64(s.Dropped), "dropped")
	b.ReportMetric(float64(s.Committing.Microseconds())/float64(s.Commits), "us/commit")
}

// BenchmarkCommit is how long one publisher waits for a commit, beside two writes of a page,
// each with its sync, into a file that does not grow. They alternate, so that both have the
// same disk.
func BenchmarkCommit(b *testing.B) {
	dir := b.TempDir()
	l := openLog(b, testConfig(filepath.Join(dir, "log")))
	follow(b, l).drop.Store(true)
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	const pages, page = 4096, 4096
	write := func(n int, data []byte) {
		if _, err := raw.WriteAt(data, int64(n%pages)*page); err != nil {
			b.Fatal(err)
		}
	}
	data := []byte(strings.Repeat("x", page))
	for n := range pages {
		write(n, data)
	}
	if err := raw.Sync(); err != nil {
		b.Fatal(err)
	}
	commits, syncs := make([]time.Duration, b.N), make([]time.Duration, b.N)
	b.ResetTimer()
	for n := range b.N {
		began := time.Now()
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: data[:200]}, History: hour()}
		if _, err := l.Append(context.Background(), []broker.Op{op}); err != nil {
			b.Fatal(err)
		}
		commits[n] = time.Since(began)
		began = time.Now()
		for i := range 2 {
			write(2*n+i, data)
			if err := syncData(raw); err != nil {
				b.Fatal(err)
			}
		}
		syncs[n] = time.Since(began)
	}
	b.StopTimer()
	for name, times := range map[string][]time.Duration{"commit": commits, "two-syncs": syncs} {
		slices.Sort(times)
		for _, p := range []int{50, 99} {
			b.ReportMetric(float64(times[len(times)*p/100].Microseconds()), fmt.Sprint("us-", name, "-p", p))
		}
	}
}

// writtenBytes is what has been written to the disk that has dir, by whoever. The kernel's
// count for a process is not it: it counts the whole of a large folio of which a page is
// written.
func writtenBytes(b *testing.B, dir string) int64 {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev)))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 7 {
		b.Fatalf("the statistics of the disk are %q", text)
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return sectors * 512
}
