package redisadapter

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// longEnough is how long to wait for what must happen, on a machine that has
// much else to do.
const longEnough = 90 * time.Second

// recorder is a Follower that remembers the entries that are not void, and fails
// the test where a log violates the contract of Follower.
type recorder struct {
	t    testing.TB
	log  *Log
	stop func()
	hold chan struct{} // if not nil, Apply waits until it is closed

	mu      sync.Mutex
	changed chan struct{} // closed at every change
	starts  []broker.Origin
	cuts    []error
	told    reasons // those of cuts, since Ready
	readies int
	up      bool
	entries []step // without those that are void
	last    broker.ID
}

// step is what a recorder remembers of an entry.
type step struct {
	id      broker.ID
	kind    broker.Kind
	channel string
	data    string
}

// record follows a log until the test ends, or stop is called.
func record(t testing.TB, l *Log) *recorder {
	t.Helper()
	r := &recorder{t: t, log: l, changed: make(chan struct{})}
	r.follow()
	return r
}

func (r *recorder) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.log.Follow(ctx, r) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	r.t.Cleanup(r.stop)
}

func (r *recorder) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Start implements broker.Follower.
func (r *recorder) Start(o broker.Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.change()
	if r.up {
		r.t.Errorf("Start comes between Ready and Cut")
	}
	if again := len(r.starts) > 0; again != (o.Gap != "") {
		r.t.Errorf("Start number %d has the gap %q", len(r.starts)+1, o.Gap)
	}
	if o.Gap == broker.ReasonTrimmed && o.ID != r.last {
		r.t.Errorf("Start goes on from %s without loss, %s was applied last", o.ID, r.last)
	}
	r.starts = append(r.starts, o)
	r.entries = slices.DeleteFunc(r.entries, func(e step) bool { return e.id.After(o.ID) })
	r.last = o.ID
}

// Apply implements broker.Follower.
func (r *recorder) Apply(entries []broker.Entry) {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.change()
	if len(r.starts) == 0 || len(entries) == 0 {
		r.t.Errorf("Apply of %d entries after %d Starts", len(entries), len(r.starts))
	}
	for i := range entries {
		e := &entries[i]
		if !e.ID.After(r.last) {
			r.t.Errorf("%s is applied after %s", e.ID, r.last)
		}
		r.last = e.ID
		data := string(e.Event.Data)
		if e.State != nil {
			data = string(e.State.Value)
		}
		r.entries = append(r.entries, step{e.ID, e.Kind, e.Channel, data})
	}
}

// Ready implements broker.Follower.
// Older is of logs on a disk.
func (r *recorder) Older([]broker.Entry, broker.ID) {}

func (r *recorder) Ready() {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.change()
	if r.up || len(r.starts) == 0 {
		r.t.Errorf("Ready comes twice, or without Start")
	}
	r.up = true
	r.readies++
}

// Cut implements broker.Follower.
func (r *recorder) Cut(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.change()
	if len(r.cuts) > 0 && err == nil {
		r.t.Errorf("Cut comes again without a reason")
	}
	if r.up || len(r.cuts) == 0 {
		r.told = nil
	}
	if err != nil && !r.told.add(err.Error()) {
		r.t.Errorf("Cut comes twice for the reason %q", err)
	}
	r.up = false
	r.cuts = append(r.cuts, err)
}

// wait waits until ok is true. It is called with mu held.
func (r *recorder) wait(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(longEnough)
	r.mu.Lock()
	defer r.mu.Unlock()
	for !ok() {
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
			r.mu.Lock()
		case <-deadline:
			r.mu.Lock()
			r.t.Fatalf("waited in vain for %s: %d entries up to %s, %d starts, ready %v, cuts %v",
				what, len(r.entries), r.last, len(r.starts), r.up, r.cuts)
		}
	}
}

func (r *recorder) waitReady() {
	r.t.Helper()
	r.wait("Ready", func() bool { return r.up })
}

func (r *recorder) waitCut() {
	r.t.Helper()
	r.wait("Cut", func() bool { return !r.up })
}

// waitFor waits until the entry with that id was applied.
func (r *recorder) waitFor(id broker.ID) {
	r.t.Helper()
	r.wait(id.String(), func() bool { return !id.After(r.last) })
}

// waitStarts waits until Start was called n times, and all was applied after
// that. It returns the last Origin.
func (r *recorder) waitStarts(n int) broker.Origin {
	r.t.Helper()
	r.wait(fmt.Sprintf("Start number %d", n), func() bool { return len(r.starts) >= n && r.up })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts[n-1]
}

func (r *recorder) all() []step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

// startsNow is how often Start was called.
func (r *recorder) startsNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.starts)
}

// sync waits until all was applied that the log has. The log may be out of reach
// meanwhile.
func (r *recorder) sync() {
	r.t.Helper()
	deadline := time.Now().Add(longEnough)
	for {
		r.waitReady()
		err := r.log.Sync(r.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("Sync: %v", err)
		}
	}
}

// same fails the test unless all have applied the same.
func same(t testing.TB, first *recorder, others ...*recorder) {
	t.Helper()
	want := first.all()
	for n, r := range others {
		got := r.all()
		for i := range max(len(want), len(got)) {
			switch {
			case i >= len(want):
				t.Fatalf("node %d has %v beyond the %d of node 0", n+1, got[i], len(want))
			case i >= len(got):
				t.Fatalf("node %d has %d entries, node 0 goes on with %v", n+1, len(got), want[i])
			case got[i] != want[i]:
				t.Fatalf("entry %d is %v at node %d, and %v at node 0", i, got[i], n+1, want[i])
			}
		}
	}
}

// traffic publishes over logs until it is stopped, and remembers what was
// acknowledged.
type traffic struct {
	t    testing.TB
	quit chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked map[broker.ID]string
	tried map[string]bool // data of events, stored or not
}

// publish starts writers, each of which publishes one operation after the other,
// over the logs in turn. op makes an operation with data that no other has.
func publish(t testing.TB, writers int, op func(writer, n int, data string) broker.Op, logs ...*Log) *traffic {
	tr := &traffic{t: t, quit: make(chan struct{}), acked: map[broker.ID]string{}, tried: map[string]bool{}}
	for w := range writers {
		tr.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-tr.quit:
					return
				default:
				}
				data := fmt.Sprintf("%d.%d", w, n)
				tr.mu.Lock()
				tr.tried[data] = true
				tr.mu.Unlock()
				results, err := logs[(w+n)%len(logs)].Append(context.Background(), []broker.Op{op(w, n, data)})
				if err != nil {
					select { // a fault: not too fast
					case <-tr.quit:
					case <-time.After(5 * time.Millisecond):
					}
					continue
				}
				tr.mu.Lock()
				tr.acked[results[0].ID] = data
				tr.mu.Unlock()
			}
		})
	}
	t.Cleanup(tr.stop)
	return tr
}

// stop ends the traffic. It may be called again.
func (tr *traffic) stop() {
	tr.mu.Lock()
	select {
	case <-tr.quit:
	default:
		close(tr.quit)
	}
	tr.mu.Unlock()
	tr.wg.Wait()
}

// waitAcked waits until n more operations were acknowledged.
func (tr *traffic) waitAcked(n int) {
	tr.t.Helper()
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.acked)
	}
	until := count() + n
	for deadline := time.Now().Add(longEnough); count() < until; {
		if time.Now().After(deadline) {
			tr.t.Fatalf("waited in vain for %d acknowledged operations", n)
		}
		time.Sleep(time.Millisecond)
	}
}

// nothingLost fails the test unless a node has applied all that was
// acknowledged, and nothing twice. A purge has no data to compare.
func (tr *traffic) nothingLost(r *recorder) {
	tr.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	byID, byData := map[broker.ID]string{}, map[string]broker.ID{}
	for _, e := range r.all() {
		byID[e.id] = e.data
		if e.kind != broker.KindEvent {
			continue
		}
		if first, twice := byData[e.data]; twice {
			tr.t.Fatalf("%q was applied as %s and as %s", e.data, first, e.id)
		}
		byData[e.data] = e.id
		if !tr.tried[e.data] {
			tr.t.Fatalf("%q was applied as %s, and nobody published it", e.data, e.id)
		}
	}
	for id, data := range tr.acked {
		if got, ok := byID[id]; !ok || got != data && got != "" && got != fmt.Sprintf("%q", data) {
			tr.t.Fatalf("%q was acknowledged as %s, where %q was applied", data, id, got)
		}
	}
}
