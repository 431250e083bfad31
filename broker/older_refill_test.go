package broker

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The model of older ones, where it refills patterns in steps: what it does between two
// steps, and what has to be so then.

// apply applies the next entry.
func (m *olderModel) apply() {
	e := m.entries[m.applied : m.applied+1]
	time.Sleep(time.Duration(e[0].ID.Ms-uint64(time.Now().UnixMilli())) * time.Millisecond)
	m.f.Apply(e)
	m.wantF.Apply(e)
	m.applied++
}

// older is the next part of what is older, and not too much of it: it comes by come, and is all above after.
func (m *olderModel) older(most int) (after ID, come func()) {
	end, from := m.end, max(0, m.end-1-m.rng.IntN(most))
	m.end = from
	if from > 0 {
		after = m.entries[from-1].ID
	}
	return after, func() { m.f.Older(m.entries[from:end], after) }
}

// between is what happens between two steps of a refill.
func (m *olderModel) between() {
	m.met["in steps"]++
	switch n := m.rng.IntN(60); {
	case n < 3 && m.applied < len(m.entries):
		m.purged = m.purged || m.entries[m.applied].Kind == KindPurge
		m.apply()
	case n < 5 && !m.floor.IsZero():
		m.met["older between steps"]++
		after, come := m.older(20)
		come()
		m.floor = after
	case n < 6:
		m.b.sweep()
		m.want.sweep()
	}
	m.patternsHold()
}

// patternsHold checks that a pattern has all that its channels keep above its complete, where
// there is room, and that no pattern says so of what is still to come: then a refill in steps
// need not know of it.
func (m *olderModel) patternsHold() {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	if r := m.b.filling; r != nil && m.b.older.floor.After(r.since) {
		m.t.Fatalf("%s is refilled from %s on, below the floor %s", r.p.name, r.since, m.b.older.floor)
	}
	for name, p := range m.b.patterns {
		if m.b.older.floor.After(p.complete) {
			m.t.Fatalf("%s is complete from %s on, and what is above %s is here", name, p.complete, m.b.older.floor)
		}
		here, last := map[ID]bool{}, ID{}
		for e := range p.all() {
			if !e.id.After(last) {
				m.t.Fatalf("%s has %s after %s", name, e.id, last)
			}
			here[e.id], last = true, e.id
		}
		for _, f := range m.b.feeds {
			for e := range f.all() {
				if !m.tight && p.pattern.Match(f.name) && e.id.After(p.complete) && !e.meta.live && !here[e.id] {
					m.t.Fatalf("%s is complete from %s on, and does not have %s of %s", name, p.complete, e.id, f.name)
				}
			}
		}
	}
}

// ascend checks that what a reader of a pattern got came in order, and once.
func (m *olderModel) ascend(name string, got []string) {
	last := -1
	for _, data := range got {
		n, err := strconv.Atoi(data)
		if err != nil {
			m.t.Fatal(err)
		}
		if n <= last {
			m.t.Fatalf("%s: %d comes after %d", name, n, last)
		}
		last = n
	}
}

// TestWhatIsOlderComesWhileAPatternIsRefilled has both go on at once, for the race detector.
func TestWhatIsOlderComesWhileAPatternIsRefilled(t *testing.T) {
	synctest.Test(t, comeWhileRefilled)
}

func comeWhileRefilled(t *testing.T) {
	b, f := byHand(t, DefaultConfig())
	stepwise(b, func() {
		for range 20 {
			runtime.Gosched() // and no word to the other goroutine, which would order what both do
		}
	})
	const retained, channels = 200, 8
	base := uint64(time.Now().UnixMilli()) - retained
	var all []Entry
	for i := range retained + channels {
		all = append(all, eventEntry(ID{base + uint64(i), 0}, fmt.Sprint("a/", i%channels), fmt.Sprint(i)))
	}
	floor := all[retained-1].ID
	f.Start(Origin{ID: floor, Older: true, Durable: true, Born: ID{1, 0}, Issued: floor})
	f.Ready()
	f.Apply(all[retained:])
	var older sync.WaitGroup
	older.Go(func() {
		for i := retained - 1; i > 0; i-- {
			f.Older(all[i:i+1], all[i-1].ID)
		}
		f.Older(all[:1], ID{})
	})
	for n := 0; n < 10 || !b.Complete(); n++ {
		sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"a/*"}, Start: Start{LastEventID: floor.String()}})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, sub, "200 201 202 203 204 205 206 207")
		sub.Close()
		b.mu.Lock()
		b.removePattern(b.patterns["a/*"])
		b.mu.Unlock()
	}
	older.Wait()
	expect(t, subscribe(t, b, Start{LastEventID: all[retained-3].ID.String()}, "a/*"), "198 199 200 201 202 203 204 205 206 207")
}
