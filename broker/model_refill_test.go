package broker

import (
	"slices"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// modelBetween is about what happens between the steps of a refill.
type modelBetween struct {
	stood modelStanding // after the last interruption
	busy  *modelReader  // who may be interrupted
}

// between is what happens between two steps of a refill. What may itself have to wait for
// that refill is left out: reads, and beginnings with the history of a pattern.
func (m *model) between() {
	if m.rng.IntN(3) > 0 {
		return
	}
	m.met.interrupted++
	switch n := m.rng.IntN(40); {
	case n < 14:
		m.publish(1 + m.rng.IntN(4)*m.rng.IntN(3))
	case n < 16:
		m.publish(30)
	case n < 18:
		m.write(1 + m.rng.IntN(3))
	case n < 21:
		m.purge()
	case n < 22:
		m.close()
	case n < 24:
		m.configure()
	case n < 28 && len(m.readers) < 12:
		r := &modelReader{names: m.names()}
		start := Start{}
		if !slices.ContainsFunc(r.names, channel.IsPattern) {
			start = m.anyStart()
		}
		m.start(r, start)
	case n < 31 && len(m.readers) > 0:
		if r := m.pick(); r != m.busy {
			m.drop(r)
		}
	case n < 33:
		m.b.mu.Lock()
		if p := m.b.patterns[one(m, modelPatterns)]; p != nil {
			m.b.refill(p, ID{})
			m.b.wake()
		}
		m.b.mu.Unlock()
	case n < 36:
		time.Sleep(time.Duration(m.rng.IntN(12)) * time.Second)
	}
	synctest.Wait()
	m.account()
	m.bounded()
	m.patternsHold()
	m.stood = m.standing()
}
