package boltadapter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// TestLogIsLikeAModelThroughCrashes publishes, sets values, uses keys and notices, has
// commits refused, closes and crashes, with a clock that jumps by an hour; and compares
// all of it with slices and maps.
func TestLogIsLikeAModelThroughCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newModel(t, seed).run(120)
		})
	}
}

type model struct {
	t     *testing.T
	r     *rand.Rand
	files *memDisk
	cfg   Config
	skew  time.Duration
	log   *Log
	c     *collector

	entries []broker.Entry // all but notices
	values  map[string]broker.State
	owners  map[string]broker.Owner
	removed map[string]broker.ID
	keys    map[string]broker.Result
	keyOps  map[string]broker.Op
	last    broker.ID
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, r: rand.New(rand.NewPCG(seed, 5)), files: newMemDisk(), cfg: testConfig(tempLog(t)),
		values: map[string]broker.State{}, owners: map[string]broker.Owner{}, removed: map[string]broker.ID{},
		keys: map[string]broker.Result{}, keyOps: map[string]broker.Op{},
	}
	m.open()
	return m
}

func (m *model) open() {
	l, err := newLog(m.cfg, m.files, func() time.Time { return time.Now().Add(m.skew) })
	if err != nil {
		m.t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = l.Close() })
	m.log, m.c = l, follow(m.t, l)
	m.check()
}

// check compares what a follower is told at first.
func (m *model) check() {
	m.t.Helper()
	o := m.c.origin
	if !o.Durable || m.last.After(o.Issued) || o.Born.After(o.ID) {
		m.t.Fatalf("the origin is %+v, the last id %s", o, m.last)
	}
	if len(m.c.entries) != len(m.entries) {
		m.t.Fatalf("%d entries, want %d", len(m.c.entries), len(m.entries))
	}
	for i := range m.entries {
		got, want := &m.c.entries[i], &m.entries[i]
		if got.ID != want.ID || got.Channel != want.Channel || got.Owner != want.Owner || textOf(got) != textOf(want) {
			m.t.Fatalf("entry %d is %+v, want %+v", i, got, want)
		}
	}
	got := map[string]string{}
	for _, e := range o.States {
		got[e.Channel] = fmt.Sprint(e.ID, string(e.State.Value), e.State.Session, e.Owner)
	}
	want := map[string]string{}
	for name, s := range m.values {
		want[name] = fmt.Sprint(s.Version, string(s.Value), s.Session, m.owners[name])
	}
	if !maps.Equal(got, want) {
		m.t.Fatalf("the values are %v, want %v", got, want)
	}
	if !maps.Equal(o.Removed, m.removed) {
		m.t.Fatalf("removed are %v, want %v", o.Removed, m.removed)
	}
	for key, first := range m.keys {
		r := m.append(m.keyOps[key])[0]
		if !r.Repeated || r.ID != first.ID || r.Err != nil {
			m.t.Fatalf("the key %s gives %+v, the first answer was %+v", key, r, first)
		}
	}
}

func (m *model) append(ops ...broker.Op) []broker.Result {
	m.t.Helper()
	results, err := m.log.Append(context.Background(), ops)
	if err != nil {
		m.t.Fatal(err)
	}
	return results
}

func (m *model) run(steps int) {
	for n := range steps {
		switch k := m.r.IntN(20); {
		case k < 12:
			m.write(n)
		case k == 12:
			m.append(broker.Op{Kind: broker.KindNotice, Channel: "n"})
			m.last = m.log.Stats().Last
		case k == 13:
			m.refused(n)
		case k == 14:
			m.log.upkeep.Lock()
			if err := m.log.checkpoint(false); err != nil {
				m.t.Fatal(err)
			}
			m.log.upkeep.Unlock()
		case k == 15: // the next commit begins segments
			m.log.mu.Lock()
			for _, c := range m.log.chains {
				if s := c.newest(); s != nil {
					s.entries = segmentEntries
				}
			}
			m.log.mu.Unlock()
		case k == 16:
			if err := m.log.Compact(); err != nil {
				m.t.Fatal(err)
			}
		default:
			if _ = m.c.end(); m.r.IntN(2) == 0 {
				m.log.crash()
			} else if err := m.log.Close(); err != nil {
				m.t.Fatal(err)
			}
			if m.r.IntN(2) == 0 {
				m.skew -= time.Hour // a clock that goes back changes nothing
			}
			m.open()
		}
	}
}

// write appends some operations, and does them in the model.
func (m *model) write(n int) {
	names := []string{"a", "b", "c", "_fact"}
	var ops []broker.Op
	for i := range 1 + m.r.IntN(4) {
		name := names[m.r.IntN(len(names))]
		var op broker.Op
		switch m.r.IntN(4) {
		case 0:
			op = event("e", fmt.Sprint(n, i))
		case 1:
			op = event("f", fmt.Sprint(n, i))
			op.History = broker.Policy{Events: 7, Bytes: 1 << 20}
		case 2:
			op = set(name, fmt.Sprint(m.r.IntN(3)))
			op.State.Session = []string{"", "", "s1", "s2"}[m.r.IntN(4)]
		default:
			op = set(name, "")
		}
		op.Owner = broker.Owner(m.r.IntN(3))
		if m.r.IntN(3) == 0 {
			op = keyed(op, fmt.Sprint("k", n, i))
		}
		ops = append(ops, op)
	}
	before := maps.Clone(m.values)
	results := m.append(ops...)
	for i, r := range results {
		op := &ops[i]
		if r.Err != nil {
			if !errors.Is(r.Err, broker.ErrStateMismatch) || op.State.Value != nil || before[op.Channel].Value != nil && len(ops) == 1 {
				m.t.Fatalf("%s is refused: %v", op.Channel, r.Err)
			}
			continue
		}
		if op.Key != (broker.Key{}) {
			m.keys[op.Key.Key], m.keyOps[op.Key.Key] = r, *op
		}
		if r.Unchanged {
			continue
		}
		if !r.ID.After(m.last) {
			m.t.Fatalf("%s was given after %s", r.ID, m.last)
		}
		m.last = r.ID
	}
	// The entries tell how values were bound.
	for _, e := range m.c.entries[len(m.c.entries)-m.applied(results, ops):] {
		m.entries = append(m.entries, e)
		if e.State == nil {
			continue
		}
		delete(m.owners, e.Channel)
		if e.State.Value == nil {
			delete(m.values, e.Channel)
			if !broker.IsFact(e.Channel) {
				m.removed[e.Channel] = e.ID
			}
			continue
		}
		m.values[e.Channel] = broker.State{Value: slices.Clone(e.State.Value), Version: e.ID, Session: e.State.Session}
		m.owners[e.Channel] = e.Owner
		delete(m.removed, e.Channel)
	}
}

func (m *model) applied(results []broker.Result, ops []broker.Op) (n int) {
	for i := range results {
		if results[i].Err == nil && !results[i].Unchanged && ops[i].Kind != broker.KindNotice {
			n++
		}
	}
	return n
}

// refused has a commit fail that would change everything.
func (m *model) refused(n int) {
	writes, at := 0, 1+m.r.IntN(2) // there are two chains
	m.files.mu.Lock()
	m.files.fail = func(op diskOp) (int, error) {
		if writes++; op.kind == "write" && writes >= at || op.kind == "create" {
			return m.r.IntN(len(op.data) + 1), &writeError{syscall.ENOSPC}
		}
		return 0, nil
	}
	m.files.mu.Unlock()
	ops := []broker.Op{set("a", `"no"`), keyed(event("e", "no"), fmt.Sprint("no", n)), set("b", ""), set("_fact", `"no"`)}
	_, err := m.log.Append(context.Background(), ops)
	m.files.mu.Lock()
	m.files.fail = nil
	m.files.mu.Unlock()
	if !errors.Is(err, broker.ErrFull) {
		m.t.Fatal(err)
	}
}
