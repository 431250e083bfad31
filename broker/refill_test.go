package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// bytesOf is the memory of the histories of patterns.
func (b *Broker) bytesOfPatterns() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.patterns {
		n += p.charged
	}
	return n
}

func TestAPatternKeepsNoCopyOfWhatItsReadersHaveRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		start := b.Head()
		s, slow := subscribe(t, b, Start{}, "a/**"), subscribe(t, b, Start{}, "*/x")
		publish(t, b, "a/x", "1")
		publish(t, b, "a/y", "2")
		expect(t, s, "1 2")
		time.Sleep(liveTail + 2*sweepEvery)
		synctest.Wait()
		if n := b.patterns["a/**"].charged; n != 0 {
			t.Errorf("what was read through the pattern takes %d bytes", n)
		}
		if n := b.patterns["*/x"].charged; n == 0 {
			t.Error("what was not read yet is gone")
		}
		publish(t, b, "a/x", "3")
		expect(t, s, "3")
		expect(t, slow, "1 3")
		expect(t, subscribe(t, b, Start{Earliest: true}, "a/**"), "1 2 3")
		expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "a/**"), "1 2 3")
		expect(t, subscribe(t, b, Start{Last: 2}, "a/**"), "2 3")
		time.Sleep(liveTail + 2*sweepEvery)
		synctest.Wait()
		if n := b.bytesOfPatterns(); n != 0 {
			t.Errorf("what was read through patterns takes %d bytes", n)
		}
	})
}

// A reader that begins early has the pattern refilled. The others go on where they are,
// also with what channels without a history got.
func TestAReaderThatBeginsEarlyMovesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) {
			c.Rules = []Rule{{Pattern: "off/**", Policy: Policy{Bytes: MinBytes}}}
		})
		for i := range 5 {
			publish(t, b, "a", fmt.Sprint(i))
		}
		s := subscribe(t, b, Start{}, "**")
		for range 3 {
			publish(t, b, "off/b", "lives")
			publish(t, b, "a", "kept")
			early := subscribe(t, b, Start{Earliest: true}, "**")
			if got, _ := read(t, early); !strings.HasPrefix(got, "0 1 2 3 4 kept") {
				t.Errorf("who begins early reads %q", got)
			}
			early.Close()
			expect(t, s, "lives kept")
			time.Sleep(liveTail + 2*sweepEvery)
			synctest.Wait()
		}
	})
}

// BenchmarkPatternMemory tells what patterns cost beside their channels: a thousand
// users who each read users/{user}/**, and one who reads **, when all have read what
// there is. It fails if what they have read is kept once more.
func BenchmarkPatternMemory(b *testing.B) {
	const users, events = 1000, 100
	cfg := DefaultConfig()
	cfg.MaxPatterns, cfg.Share = 10_000, 100
	broker, err := New(NewMemory(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	subs := make([]*Subscription, 0, users+1)
	read := func(name string) {
		s, err := broker.Subscribe(SubscribeOptions{Channels: []string{name}})
		if err != nil {
			b.Fatal(err)
		}
		subs = append(subs, s)
	}
	for i := range users {
		read(fmt.Sprintf("users/%d/**", i))
	}
	read("**")
	data := make([]byte, 200)
	for b.Loop() {
		for range events {
			for i := range users {
				op := Op{Kind: KindEvent, Channel: fmt.Sprintf("users/%d/inbox", i), Event: sse.Event{Data: data}}
				if _, err := broker.Publish(context.Background(), []Op{op}); err != nil {
					b.Fatal(err)
				}
			}
			var batch Batch
			for _, s := range subs {
				for batch.More = true; batch.More; {
					if err := s.Read(&batch); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
	broker.mu.Lock()
	broker.sweepAll(broker.now() + uint64(liveTail.Milliseconds()) + 1)
	broker.mu.Unlock()
	all, patterns := broker.Stats().Bytes, broker.bytesOfPatterns()
	b.ReportMetric(float64(all-patterns), "channels-B")
	b.ReportMetric(float64(patterns), "patterns-B")
	if patterns > all/10 {
		b.Errorf("patterns take %d of %d bytes", patterns, all)
	}
}
