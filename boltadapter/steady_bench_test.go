package boltadapter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// BenchmarkSteadyState appends 5,000 events of 200 bytes a second, each with one of the
// values and every tenth with an idempotency key, whose age is a sixth of the run, so
// that segments are removed all the time. An operation is a second of it: run it with
// -benchtime 120x or more. It tells what the process wrote to the disk for each byte of
// payload, and how large the directory became.
func BenchmarkSteadyState(b *testing.B) {
	const rate, size = 5000, 200
	l := openLog(b, testConfig(filepath.Join(b.TempDir(), "log")))
	follow(b, l).drop.Store(true)
	policy := broker.Policy{Events: 1000, Bytes: 1 << 20, Age: max(time.Duration(b.N)*time.Second/6, time.Second)}
	data := []byte(strings.Repeat("x", size))
	began, before, largest, n := time.Now(), writtenBytes(b), int64(0), 0
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
	b.ReportMetric(float64(writtenBytes(b)-before)/float64(n*size), "disk/payload")
	b.ReportMetric(float64(s.Written)/float64(n*size), "segments/payload")
	b.ReportMetric(float64(s.Entries)/float64(s.Commits), "entries/commit")
	b.ReportMetric(float64(largest)/(1<<20), "MiB-largest")
	b.ReportMetric(float64(s.Size)/(1<<20), "MiB-last")
	b.ReportMetric(float64(s.Dropped), "dropped")
	b.ReportMetric(float64(s.Committing.Microseconds())/float64(s.Commits), "us/commit")
}

// writtenBytes is what this process has had the disk write, as far as the system tells.
func writtenBytes(b *testing.B) (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}
