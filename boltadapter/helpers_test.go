package boltadapter

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// collector is a Follower that collects what it is told.
type collector struct {
	mu      sync.Mutex
	origin  broker.Origin
	entries []broker.Entry
	cuts    []error
	ready   chan struct{}
	once    sync.Once
	end     func() error
	drop    atomic.Bool // do not collect entries
}

func newCollector() *collector { return &collector{ready: make(chan struct{})} }

func (c *collector) Start(o broker.Origin) { c.origin = o }

func (c *collector) Apply(entries []broker.Entry) {
	if c.drop.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = append(c.entries, entries...)
}

// Older implements broker.Follower. The collector is ready when it has all that is older.
func (c *collector) Older(entries []broker.Entry, after broker.ID) {
	if !c.drop.Load() {
		c.mu.Lock()
		c.entries = slices.Concat(entries, c.entries)
		c.mu.Unlock()
	}
	if after.IsZero() {
		c.once.Do(func() { close(c.ready) })
	}
}

func (c *collector) Ready() {
	if !c.origin.Older {
		c.once.Do(func() { close(c.ready) })
	}
}

func (c *collector) Cut(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts = append(c.cuts, err)
}

// texts are the entries: the data of events, the names and values of values.
func (c *collector) texts() (texts []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.entries {
		texts = append(texts, textOf(&c.entries[i]))
	}
	return texts
}

func textOf(e *broker.Entry) string {
	if e.State != nil {
		return e.Channel + "=" + string(e.State.Value)
	}
	return string(e.Event.Data)
}

// follow follows a log until the test ends, or end is called.
func follow(t testing.TB, l *Log) *collector {
	t.Helper()
	c := newCollector()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Follow(ctx, c) }()
	c.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = c.end() })
	select {
	case <-c.ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return c
}

// hour is a policy, so that its events are in a chain of their own.
func hour() broker.Policy {
	return broker.Policy{Events: 1000, Age: time.Hour, Bytes: 1 << 20}
}

func event(channel, data string) broker.Op {
	return broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte(data)}, History: hour()}
}

func keyed(op broker.Op, key string) broker.Op {
	op.Key = broker.Key{Identity: "me", Key: key}
	return op
}

func set(channel, value string) broker.Op {
	op := broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{Value: []byte(value)}}
	if value == "" {
		op.State.Value = nil
	}
	return op
}

// appended appends operations, none of which may be refused.
func appended(t testing.TB, l *Log, ops ...broker.Op) []broker.Result {
	t.Helper()
	results, err := l.Append(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		if results[i].Err != nil {
			t.Fatalf("operation %d: %v", i, results[i].Err)
		}
	}
	return results
}

// openOn opens a log on other files than those of the disk.
func openOn(t testing.TB, cfg Config, files fileSystem) *Log {
	t.Helper()
	l, err := newLog(cfg, files, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func tempLog(t testing.TB) string { return filepath.Join(t.TempDir(), "log") }

// fill appends some of everything.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		appended(t, l, event("a", fmt.Sprint("event ", i)))
		appended(t, l, set("v", fmt.Sprint(i)), keyed(event("b", fmt.Sprint("keyed ", i)), fmt.Sprint("k", i)))
	}
}

// readBack reads what segments and meta.db have, as opening the log would, without
// writing anything.
func readBack(files fileSystem, root, meta string) (*Log, *collector, *scan, error) {
	cfg := testConfig(root)
	l, err := newLog(cfg, files, time.Now)
	if err != nil {
		return nil, nil, nil, err
	}
	ld, err := loadFile(meta)
	if err != nil {
		return nil, nil, nil, err
	}
	sc := &scan{disk: files, root: l.path, identity: ld.identity, mark: ld.mark, now: time.Now()}
	if err := sc.run(); err != nil {
		return nil, nil, nil, err
	}
	if err := sc.cut(); err != nil {
		return nil, nil, nil, err
	}
	l.adopt(ld, sc)
	c := newCollector()
	o, readers := l.origin()
	c.Start(o)
	_, err = l.giveOlder(context.Background(), readers, c)
	return l, c, sc, err
}
