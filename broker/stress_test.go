package broker

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// What the model cannot see, because it has one goroutine: readers that read
// while others publish, purge, configure, join and leave. Each reader checks
// the order as it goes; what it got is compared with the log at the end.

const (
	stressPublishers = 4
	stressBatches    = 1500 // of each publisher
	stressReaders    = 16
)

var (
	stressTargets = []string{"a", "a/x", "a/y", "a/x/1", "b", "b/x", "off/1", "few", "big", "a/", "a/x/", "b/", "new/"}
	stressNames   = [][]string{
		{"a"}, {"a/x", "b"}, {"**"}, {"a/*", "b/x"}, {"off/1", "few"}, {"big", "a/x/1", "new"}, {"*/x", "a/x"}, {"few", "big/**"},
	}
	stressToggled = []string{"c", "c/*", "b/y"} // joined and left; disjoint from stressTargets but for "b/"
)

type stressEntry struct {
	id      ID
	channel string
	except  string
}

func TestStress(t *testing.T) {
	b, err := New(NewMemory(), stressConfig(0))
	if err != nil {
		t.Fatal(err)
	}
	b.steps.names, b.steps.entries = 2, 2
	var (
		mu         sync.Mutex
		log        []stressEntry
		publishing sync.WaitGroup
		others     sync.WaitGroup
		finished   = make(chan struct{})
		last       atomic.Pointer[ID]
	)
	for seed := range uint64(stressPublishers) {
		publishing.Go(func() {
			mine := stressPublish(t, b, rand.New(rand.NewPCG(seed, 1)))
			mu.Lock()
			defer mu.Unlock()
			log = append(log, mine...)
		})
	}
	others.Go(func() { stressDisturb(t, b, finished) })
	readers := make([]*stressReader, stressReaders)
	for i := range readers {
		r := &stressReader{
			t: t, b: b, rng: rand.New(rand.NewPCG(uint64(i), 2)), last: &last,
			names: stressNames[i%len(stressNames)], id: string(rune('A' + i)), decode: i%3 == 0,
		}
		if i%5 == 4 {
			r.slow = true
		}
		readers[i] = r
		r.begin(Start{})
		others.Go(r.run)
	}
	publishing.Wait()
	head := b.Head()
	last.Store(&head)
	close(finished)
	for _, r := range readers {
		r.wake()
	}
	others.Wait()

	slices.SortFunc(log, func(x, y stressEntry) int { return x.id.Compare(y.id) })
	gaps, got := 0, 0
	for _, r := range readers {
		r.check(log)
		gaps += r.gaps
		got += len(r.seen)
	}
	t.Logf("%d entries, %d delivered, %d gaps", len(log), got, gaps)
	if gaps == 0 || got < len(log)/4 {
		t.Error("the run did not test much")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for b.dropUnread(inPatterns, nil) || b.dropUnread(inNames, nil) { // what is kept for readers that come back
	}
	if s := b.Stats(); s.Subscriptions != 0 || s.Patterns != 0 {
		t.Errorf("%d subscriptions and %d patterns are left", s.Subscriptions, s.Patterns)
	}
}

func stressConfig(n int) Config {
	c := DefaultConfig()
	c.History = Policy{Events: 200 + 50*(n%3), Age: time.Minute, Bytes: 64 << 10}
	c.Rules = []Rule{
		{Pattern: "off/**", Policy: Policy{Bytes: 8 << 10}},
		{Pattern: "few/**", Policy: Policy{Events: 1 + n%4, Bytes: 8 << 10}},
		{Pattern: "big/**", Policy: Policy{Events: Unlimited, Bytes: (4 + 12*(n%2)) << 10}},
	}
	c.MaxBytes = (64 + 128*(n%3)) << 10
	c.MaxChannels = 16 + n%8
	return c
}

func stressPublish(t *testing.T, b *Broker, rng *rand.Rand) (log []stressEntry) {
	padding := bytes.Repeat([]byte("x"), 600)
	for range stressBatches {
		ops := make([]Op, 1+rng.IntN(4))
		for i := range ops {
			op := &ops[i]
			op.Kind, op.Channel = KindEvent, stressTargets[rng.IntN(len(stressTargets))]
			if rng.IntN(50) == 0 && !channel.IsBeneath(op.Channel) {
				op.Kind = KindPurge
				continue
			}
			if rng.IntN(20) == 0 {
				op.Except = string(rune('A' + rng.IntN(stressReaders)))
			}
			op.Event = sse.Event{Data: append([]byte(op.Channel+" "), padding[:rng.IntN(len(padding))]...)}
		}
		entries := make([]stressEntry, len(ops))
		for i := range ops {
			entries[i] = stressEntry{channel: ops[i].Channel, except: ops[i].Except}
			if ops[i].Kind == KindPurge {
				entries[i].channel = ""
			}
		}
		runtime.Gosched() // or on one processor nobody reads before the end
		results, err := b.Publish(t.Context(), ops)
		if err != nil {
			t.Error(err)
			return log
		}
		for i := range results {
			if entries[i].channel != "" {
				entries[i].id = results[i].ID
				log = append(log, entries[i])
			}
		}
	}
	return log
}

// stressDisturb configures, lists, sweeps, and lets others come and go.
func stressDisturb(t *testing.T, b *Broker, finished <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-finished:
			return
		default:
		}
		if err := b.Configure(stressConfig(n)); err != nil {
			t.Error(err)
			return
		}
		b.Channels("a", "", 5)
		b.Channel("a")
		b.Stats()
		b.sweep()
		sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"*", "a/**", "a/x/1", "d"}, Start: Start{Last: n % 7, Earliest: n%2 == 0}})
		if err != nil {
			t.Error(err)
			return
		}
		var batch Batch
		if err := sub.Read(&batch); err != nil {
			t.Error(err)
		}
		sub.Close()
		time.Sleep(time.Millisecond) // a pace, nothing waits for it
	}
}

type stressReader struct {
	t      *testing.T
	b      *Broker
	rng    *rand.Rand
	id     string
	names  []string
	decode bool
	slow   bool
	last   *atomic.Pointer[ID] // of the log, once it is known

	mu     sync.Mutex // guards sub
	sub    *Subscription
	start  ID
	cursor ID // what the client would send back
	seen   []ID
	lost   [][2]ID // above the first, up to the second, there was a gap
	gaps   int
	batch  Batch
}

func (r *stressReader) begin(start Start) {
	sub, err := r.b.Subscribe(SubscribeOptions{ID: r.id, Channels: r.names, Start: start})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	r.sub = sub
	r.mu.Unlock()
	if start.LastEventID == "" {
		r.start = sub.Start()
	}
	if r.cursor = sub.Start(); r.cursor.IsZero() {
		r.t.Error("a subscription began nowhere")
	}
}

func (r *stressReader) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sub.signal()
}

func (r *stressReader) run() {
	defer func() { r.sub.Close() }()
	var toggling sync.WaitGroup
	defer toggling.Wait()
	for !r.t.Failed() {
		for r.batch.More = true; r.batch.More; {
			if !r.read() {
				return
			}
			if r.slow {
				time.Sleep(time.Duration(r.rng.IntN(3)) * time.Millisecond)
			}
		}
		if end := r.last.Load(); end != nil && !end.After(r.sub.Cursor()) {
			return
		}
		switch r.rng.IntN(40) {
		case 0: // the connection breaks, and the client comes back
			toggling.Wait()
			r.sub.Close()
			if r.rng.IntN(2) == 0 {
				if now := r.sub.Cursor(); now.After(r.cursor) {
					r.cursor = now // a heartbeat told it
				}
			}
			r.begin(Start{LastEventID: r.cursor.String()})
			continue
		case 1:
			sub, name := r.sub, stressToggled[r.rng.IntN(len(stressToggled))]
			toggling.Wait()
			toggling.Go(func() {
				if err := sub.Join(name, Start{}); err != nil && !errors.Is(err, ErrClosed) {
					r.t.Error(err)
				}
				sub.Leave(name)
			})
		}
		select {
		case <-r.sub.Wake():
		case <-time.After(patience):
			r.t.Errorf("reader %s waits at %s for %s", r.id, r.sub.Cursor(), r.b.Head())
			return
		}
	}
}

func (r *stressReader) read() bool {
	r.batch.Decode = r.decode
	before := r.cursor
	if err := r.sub.Read(&r.batch); err != nil {
		r.t.Error(err)
		return false
	}
	if r.batch.Gap != nil {
		r.gaps++
		r.lost = append(r.lost, [2]ID{before, r.b.Head()})
	}
	if r.decode {
		for _, d := range r.batch.Deliveries {
			r.got(d.ID, string(d.Event.Data), d.Channel)
		}
	} else {
		for block := range bytes.SplitSeq(bytes.TrimSuffix(r.batch.Bytes, []byte("\n\n")), []byte("\n\n")) {
			if len(block) == 0 {
				continue
			}
			e := sse.Parse(append(slices.Clone(block), "\n\n"...))
			id, ok := ParseID(e.ID)
			name, _, _ := bytes.Cut(e.Data, []byte(" "))
			if !ok {
				r.t.Errorf("reader %s got %q", r.id, block)
				return false
			}
			r.got(id, string(e.Data), string(name))
		}
	}
	if !r.batch.Last.IsZero() && r.batch.Last != r.cursor {
		r.t.Errorf("reader %s was told %s, the last event is %s", r.id, r.batch.Last, r.cursor)
	}
	return true
}

func (r *stressReader) got(id ID, data, name string) {
	if !id.After(r.cursor) {
		r.t.Errorf("reader %s of %q got %s after %s", r.id, r.names, id, r.cursor)
	}
	if len(data) <= len(name) || data[:len(name)] != name {
		r.t.Errorf("reader %s got %q of %s", r.id, data, name)
	}
	r.cursor = id
	r.seen = append(r.seen, id)
}

// check compares what came with the log: all that r reads, but for gaps.
func (r *stressReader) check(log []stressEntry) {
	next := 0
	for _, e := range log {
		came := next < len(r.seen) && r.seen[next] == e.id
		if came {
			next++
		}
		wanted := e.id.After(r.start) && e.except != r.id && stressReads(r.names, e.channel)
		switch {
		case came && !wanted && (e.except == r.id || !stressReads(stressToggled, e.channel)):
			r.t.Errorf("reader %s of %q got %s of %s", r.id, r.names, e.id, e.channel)
		case wanted && !came && !slices.ContainsFunc(r.lost, func(l [2]ID) bool {
			return e.id.After(l[0]) && !e.id.After(l[1])
		}):
			r.t.Errorf("reader %s of %q silently lost %s of %s", r.id, r.names, e.id, e.channel)
		}
		if r.t.Failed() {
			return
		}
	}
	if next < len(r.seen) {
		r.t.Errorf("reader %s got %s, which is not in the log", r.id, r.seen[next])
	}
}

func stressReads(names []string, ch string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		p, err := channel.ParsePattern(name)
		return err == nil && p.Match(ch)
	})
}
