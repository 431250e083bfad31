// Package logtest is the contract suite of broker.Log: every implementation must
// pass it.
package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// Harness makes the logs for Run. Run calls its functions one at a time.
type Harness struct {
	// Open returns a new, empty log. Run closes it.
	Open func(t *testing.T) broker.Log
	// Reopen, for a log that retains entries, closes and opens it again. Nil
	// says that the log retains nothing.
	Reopen func(t *testing.T, log broker.Log) broker.Log
	// Join opens a log as another node of those that share it. Run closes it. It is
	// needed if the logs are a broker.Cluster.
	Join func(t *testing.T, log broker.Log) broker.Log
	// Cut disconnects one node from what the nodes share, until heal is called. It
	// is needed if the logs are a broker.Cluster.
	Cut func(t *testing.T, log broker.Log) (heal func())
}

// Run tests the logs of a harness. A log that is a broker.Cluster is tested for
// that, too.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"ids rise, and entries arrive in their order":          testOrder,
		"what Append returns is applied":                       testApplied,
		"a key gives the first answer back":                    testKeys,
		"a key of another identity is another":                 testIdentities,
		"a key with another operation is refused":              testKeyReused,
		"concurrent appends lose and double nothing":           testConcurrent,
		"a cancelled context stores nothing":                   testCancelled,
		"Follow ends with its context, and may begin again":    testFollowEnds,
		"after Sync, all that was appended is applied":         testSync,
		"after Close every method says so, and Close is again": testClosed,
		"what is retained is followed again":                   testRetained,
		"an entry tells in whose share it counts":              testOwners,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	for name, test := range stateTests {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	for name, test := range closedTests {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	for name, test := range stageTests {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	if _, is := open(t, h).(broker.Cluster); !is {
		return
	}
	if h.Join == nil || h.Cut == nil {
		t.Fatal("the log is a broker.Cluster: its harness needs Join and Cut")
	}
	for name, test := range clusterTests {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

// follower collects the entries that a log applies.
type follower struct {
	origin broker.Origin
	ready  chan struct{} // closed by the first Ready
	end    func() error

	mu      sync.Mutex
	entries []broker.Entry
	changed chan struct{}
}

func follow(t *testing.T, log broker.Log) *follower {
	t.Helper()
	f := &follower{ready: make(chan struct{}), changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- log.Follow(ctx, f)
	}()
	select {
	case <-f.ready:
	case err := <-ended:
		t.Fatal(err)
	}
	f.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = f.end() })
	return f
}

// Start implements broker.Follower.
func (f *follower) Start(o broker.Origin) { f.origin = o }

// Ready implements broker.Follower.
func (f *follower) Ready() {
	if !f.origin.Older {
		f.isReady()
	}
}

// Older implements broker.Follower. The follower is ready when it has all that is older.
func (f *follower) Older(entries []broker.Entry, after broker.ID) {
	f.mu.Lock()
	f.entries = slices.Concat(entries, f.entries)
	f.mu.Unlock()
	if after.IsZero() {
		f.isReady()
	}
}

func (f *follower) isReady() {
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
}

// Cut implements broker.Follower.
func (f *follower) Cut(error) {}

// Apply implements broker.Follower. It copies the entries, because the log may
// reuse the slice.
func (f *follower) Apply(entries []broker.Entry) {
	f.mu.Lock()
	f.entries = append(f.entries, entries...)
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) all() []broker.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.entries)
}

// patience is how long to wait for what must happen: until all nodes know a change of
// members, the ten seconds of broker.Cluster, and twice as much for a machine under load.
const patience = 30 * time.Second

// wait waits for n entries.
func (f *follower) wait(t *testing.T, n int) []broker.Entry {
	t.Helper()
	for {
		if all := f.all(); len(all) >= n {
			return all
		}
		select {
		case <-f.changed:
		case <-time.After(patience):
			t.Fatalf("%d entries after %s, want %d", len(f.all()), patience, n)
		}
	}
}

func open(t *testing.T, h Harness) broker.Log {
	t.Helper()
	log := h.Open(t)
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func event(channel, data string) broker.Op {
	return broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Type: "t", Data: []byte(data)}}
}

func keyed(op broker.Op, identity, key string) broker.Op {
	op.Key = broker.Key{Identity: identity, Key: key}
	return op
}

func appendAll(t *testing.T, log broker.Log, ops ...broker.Op) []broker.Result {
	t.Helper()
	results, err := log.Append(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(ops) {
		t.Fatalf("%d results for %d operations", len(results), len(ops))
	}
	return results
}

func testOrder(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	last, n := f.origin.ID, 0
	for i := range 50 {
		ops := []broker.Op{event("a", fmt.Sprint(n)), event("b", fmt.Sprint(n+1))}[:1+i%2]
		for _, r := range appendAll(t, log, ops...) {
			if !r.ID.After(last) || r.Err != nil || r.Repeated {
				t.Fatalf("result %+v after %s", r, last)
			}
			last = r.ID
		}
		n += len(ops)
	}
	for i, e := range f.wait(t, n) {
		if string(e.Event.Data) != fmt.Sprint(i) || e.Version != broker.EntryVersion || e.Kind != broker.KindEvent {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
}

func testApplied(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	for i := range 20 {
		r := appendAll(t, log, event("a", "x"))
		all := f.all()
		if len(all) != i+1 || all[i].ID != r[0].ID {
			t.Fatalf("after append %d, %d entries were applied", i+1, len(all))
		}
	}
}

func testKeys(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	op := keyed(event("a", "x"), "me", "k")
	first := appendAll(t, log, op)
	again := appendAll(t, log, keyed(event("a", "x"), "me", "k"), event("a", "y"))
	if again[0].ID != first[0].ID || !again[0].Repeated || again[0].Err != nil {
		t.Errorf("the second answer is %+v, the first was %+v", again[0], first[0])
	}
	if all := f.wait(t, 2); len(all) != 2 || string(all[1].Event.Data) != "y" {
		t.Errorf("entries %+v", all)
	}
	twice := appendAll(t, log, keyed(event("a", "z"), "me", "l"), keyed(event("a", "z"), "me", "l"))
	if twice[0].ID != twice[1].ID || !twice[1].Repeated {
		t.Errorf("one key twice in one append: %+v", twice)
	}
}

func testIdentities(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	r := appendAll(t, log,
		keyed(event("a", "x"), "me", "k"), keyed(event("a", "x"), "you", "k"),
		keyed(event("a", "x"), "", "mek"), keyed(event("a", "x"), "m", "ek"))
	for i := range r {
		if r[i].Repeated || r[i].Err != nil {
			t.Errorf("operation %d: %+v", i, r[i])
		}
	}
}

func testKeyReused(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	base := keyed(event("a", "x"), "me", "k")
	appendAll(t, log, base)
	for name, change := range map[string]func(*broker.Op){
		"channel": func(o *broker.Op) { o.Channel = "b" },
		"data":    func(o *broker.Op) { o.Event.Data = []byte("y") },
		"type":    func(o *broker.Op) { o.Event.Type = "u" },
		"id":      func(o *broker.Op) { o.Event.ID = "i" },
		"retry":   func(o *broker.Op) { o.Event.Retry = 1 },
		"except":  func(o *broker.Op) { o.Except = "s" },
		"filter":  func(o *broker.Op) { o.Filter = &broker.Filter{To: []string{"user:a"}} },
		"kind":    func(o *broker.Op) { o.Kind = broker.KindPurge },
		"shifted": func(o *broker.Op) { o.Channel, o.Event.Type = "at", "" },
	} {
		op := base
		change(&op)
		if r := appendAll(t, log, op); !errors.Is(r[0].Err, broker.ErrKeyReused) {
			t.Errorf("another %s: %+v, want ErrKeyReused", name, r[0])
		}
	}
	if all := f.wait(t, 1); len(all) != 1 {
		t.Errorf("%d entries, want 1", len(all))
	}
}

func testConcurrent(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	const writers, each = 8, 50
	ids := make([][]broker.ID, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r, err := log.Append(context.Background(), []broker.Op{event("a", fmt.Sprintf("%d.%d", w, i))})
				if err != nil {
					t.Error(err)
					return
				}
				ids[w] = append(ids[w], r[0].ID)
			}
		})
	}
	wg.Wait()
	byID := map[broker.ID]string{}
	last := f.origin.ID
	for _, e := range f.wait(t, writers*each) {
		if !e.ID.After(last) {
			t.Fatalf("%s was applied after %s", e.ID, last)
		}
		last = e.ID
		byID[e.ID] = string(e.Event.Data)
	}
	for w := range ids {
		for i, id := range ids[w] {
			if want := fmt.Sprintf("%d.%d", w, i); byID[id] != want {
				t.Fatalf("%s holds %q, want %q", id, byID[id], want)
			}
		}
	}
}

func testCancelled(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := log.Append(ctx, []broker.Op{event("a", "x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v, want context.Canceled", err)
	}
	appendAll(t, log, event("a", "y"))
	if all := f.wait(t, 1); string(all[0].Event.Data) != "y" {
		t.Errorf("entries %+v", all)
	}
}

func testFollowEnds(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	first := appendAll(t, log, event("a", "1"))
	if err := f.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v, want context.Canceled", err)
	}
	g := follow(t, log)
	second := appendAll(t, log, event("a", "2"))
	if all := g.wait(t, 1); all[len(all)-1].ID != second[0].ID || !second[0].ID.After(first[0].ID) {
		t.Errorf("followed again: %+v", all)
	}
	if len(f.all()) != 1 {
		t.Error("a Follow that ended goes on")
	}
}

func testSync(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	appendAll(t, log, event("a", "1"), event("a", "2"))
	if err := log.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if all := f.all(); len(all) != 2 {
		t.Errorf("%d entries were applied, want 2", len(all))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := log.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v, want context.Canceled", err)
	}
}

func testClosed(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.end(); !errors.Is(err, broker.ErrClosed) && !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
	if _, err := log.Append(context.Background(), []broker.Op{event("a", "x")}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Append: %v, want ErrClosed", err)
	}
	if err := log.Sync(context.Background()); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Sync: %v, want ErrClosed", err)
	}
	err := log.Follow(context.Background(), &follower{})
	if !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Follow: %v, want ErrClosed", err)
	}
	if err := log.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func testRetained(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	appendAll(t, log, event("a", "1"), event("b", "2"))
	want := f.wait(t, 2)
	if h.Reopen == nil {
		if f.origin.Durable {
			t.Error("a log that retains nothing calls its ids durable")
		}
		return
	}
	_ = f.end()
	log = h.Reopen(t, log)
	t.Cleanup(func() { _ = log.Close() })
	g := follow(t, log)
	got := g.wait(t, 2)
	for i := range want {
		if got[i].ID != want[i].ID || string(got[i].Event.Data) != string(want[i].Event.Data) {
			t.Errorf("entry %d is %+v after it was opened again, want %+v", i, got[i], want[i])
		}
	}
	if r := appendAll(t, log, event("a", "3")); !r[0].ID.After(want[1].ID) {
		t.Errorf("%s was given after %s", r[0].ID, want[1].ID)
	}
}
