package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// sharedLog is what a service keeps that several nodes share, in the hands of a
// test: it loses its end, trims its beginning, and tells a node when it is told
// to.
type sharedLog struct {
	t       *testing.T
	born    ID
	last    ID
	entries []Entry       // of all streams, in order
	floors  map[Policy]ID // the newest entry that was trimmed
	states  stateTable
	removed map[string]ID
	policy  func(name string) Policy
	nodes   []*sharedNode
}

// sharedNode is the Log of one node.
type sharedNode struct {
	shared  *sharedLog
	name    string
	b       *Broker
	f       Follower
	stopped chan struct{}
	once    sync.Once

	applied []ID // all of it, for the search of what stands
	began   ID   // the log's newest when it joined
	voided  bool // it has applied what was lost above stands, and was not told
	stands  ID
}

func newSharedLog(t *testing.T, policy func(string) Policy) *sharedLog {
	born := ID{uint64(time.Now().UnixMilli()), 0}
	return &sharedLog{
		t: t, born: born, last: born,
		floors: map[Policy]ID{}, removed: map[string]ID{}, policy: policy,
	}
}

// join adds a node, which loads what is kept.
func (l *sharedLog) join(name string, cfg Config) *sharedNode {
	l.t.Helper()
	n := &sharedNode{shared: l, name: name, stopped: make(chan struct{})}
	b, err := New(n, cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	n.b = b
	l.nodes = append(l.nodes, n)
	l.t.Cleanup(func() { _ = b.Close() })
	return n
}

func (n *sharedNode) Node() string { return n.name }

func (n *sharedNode) Members() ([]string, bool) { return nil, false }

func (n *sharedNode) Report(context.Context, map[string]int) error { return nil }

func (n *sharedNode) Readers(_ context.Context, names []string) ([]int, error) {
	return make([]int, len(names)), nil
}

// Append gives ids, and has this node apply all.
func (n *sharedNode) Append(_ context.Context, ops []Op) ([]Result, error) {
	l := n.shared
	results := make([]Result, len(ops))
	for i, digest := range valueDigestsOf(ops) {
		op := &ops[i]
		if op.Kind != KindState {
			continue
		}
		next := l.next()
		state := l.states.decide(op, digest, next, next.Time(), &results[i])
		if state == nil {
			continue
		}
		if results[i].ID = next; state.Value == nil {
			l.removed[op.Channel] = next
		}
		l.add(Entry{ID: next, Version: EntryVersion, Kind: op.Kind, Channel: op.Channel, State: state})
	}
	for i := range ops {
		if op := &ops[i]; op.Kind != KindState {
			results[i].ID = l.next()
			l.add(Entry{ID: results[i].ID, Version: EntryVersion, Kind: op.Kind, Channel: op.Channel, Event: op.Event, Except: op.Except})
		}
	}
	return results, n.Sync(context.Background())
}

func (l *sharedLog) next() ID { return ID{l.last.Ms + 1, 0} }

func (l *sharedLog) add(e Entry) {
	l.entries = append(l.entries, e)
	l.last = e.ID
}

func (n *sharedNode) Follow(ctx context.Context, f Follower) error {
	n.f, n.began = f, n.shared.last
	f.Start(n.shared.origin())
	for _, e := range n.shared.entries {
		n.apply(e)
	}
	f.Ready()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stopped:
		return ErrClosed
	}
}

func (n *sharedNode) apply(e Entry) {
	n.applied = append(n.applied, e.ID)
	n.f.Apply([]Entry{e})
}

func (n *sharedNode) Close() error {
	n.once.Do(func() { close(n.stopped) })
	return nil
}

// origin is what a node is told that begins to follow.
func (l *sharedLog) origin() Origin {
	o := Origin{
		ID: l.last, Durable: true, Born: l.born, Lost: map[Policy]ID{},
		States: l.states.entries(), Removed: l.removed,
	}
	if len(l.entries) > 0 {
		o.ID = ID{l.entries[0].ID.Ms - 1, 0}
	}
	maps.Copy(o.Lost, l.floors)
	return o
}

// Sync has the node apply all, after what it has to be told.
func (n *sharedNode) Sync(context.Context) error {
	n.step(len(n.shared.entries))
	return nil
}

// mend tells the node what does not stand, or what it has missed.
func (n *sharedNode) mend() {
	l := n.shared
	if n.voided {
		n.voided = false
		above := slices.IndexFunc(n.applied, func(id ID) bool { return id.After(n.stands) })
		n.applied = n.applied[:above]
		o := l.origin()
		o.ID, o.Lost, o.Gap = n.position(), nil, ReasonDiverged
		n.f.Start(o)
	}
	missed := map[Policy]ID{}
	for policy, id := range l.floors {
		if id.After(n.position()) {
			missed[policy] = id
		}
	}
	if len(missed) > 0 {
		o := l.origin()
		o.ID, o.Lost, o.Gap = n.position(), missed, ReasonTrimmed
		n.f.Start(o)
	}
}

// seen reports whether the node was there when the log gave id.
func (n *sharedNode) seen(id ID) bool { return id.After(n.began) }

func (n *sharedNode) position() ID {
	if len(n.applied) == 0 {
		return ID{}
	}
	return n.applied[len(n.applied)-1]
}

// step has the node apply up to most entries, after what it has to be told.
func (n *sharedNode) step(most int) {
	n.mend()
	for _, e := range n.shared.entries {
		if most > 0 && e.ID.After(n.position()) {
			n.apply(e)
			most--
		}
	}
}

// lose takes away the newest count entries. Ids go on above them.
func (l *sharedLog) lose(count int) {
	at := max(len(l.entries)-count, 0)
	stands := ID{}
	for _, id := range l.floors {
		stands = latest(stands, id)
	}
	if at > 0 {
		stands = latest(stands, l.entries[at-1].ID)
	}
	// What was trimmed is in the past for all of it.
	l.entries = slices.DeleteFunc(l.entries, func(e Entry) bool { return e.ID.After(stands) })
	for _, n := range l.nodes {
		if n.position().After(stands) {
			if !n.voided || n.stands.After(stands) {
				n.stands = stands
			}
			n.voided = true
		}
	}
}

// trim takes away the oldest entries of a policy, so many of all that are
// looked at.
func (l *sharedLog) trim(policy Policy, looked int) {
	l.entries = slices.DeleteFunc(l.entries, func(e Entry) bool {
		if looked--; looked < 0 || l.policy(e.Channel) != policy || e.Kind == KindState {
			return false
		}
		l.floors[policy] = e.ID
		return true
	})
}
