// Package ratelimit limits a rate by key.
package ratelimit

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// Rate bounds how often something may happen. The zero Rate bounds nothing.
type Rate struct {
	PerSecond float64 // how many a second, on average
	Burst     int     // how many at once
	Unlimited bool    // no bound
}

// Max is the largest PerSecond, one a nanosecond, and the largest Burst.
const Max = 1_000_000_000

// maxKeys bounds the keys of one Meters.
const maxKeys = 100_000

// Meters limits a rate by key with GCRA: it keeps one timestamp per key, the
// theoretical arrival time. Each unit moves the timestamp on by 1/PerSecond seconds,
// and is allowed as long as the timestamp is then no further ahead of now than
// Burst/PerSecond seconds. More units than a burst at once are allowed only when the
// timestamp is not ahead, and move it on by their whole number.
//
// The number of keys is bounded. When the bound is reached, a new key replaces one
// whose timestamp has passed, because a new key would have no other; if none is
// found, new keys share one timestamp. A key that is over the rate is never dropped.
//
// The zero Meters limits nothing. It is safe for concurrent use.
type Meters struct {
	mu       sync.Mutex // guards what follows
	rate     Rate
	most     int
	seed     maphash.Seed         // keeps keys from being chosen so that their hashes collide
	arrivals map[uint64]time.Time // theoretical arrival times, by the hash of the key
	shared   time.Time            // that of all new keys for which there is no room
}

// SetRate sets the rate. Timestamps stay: a key that is over the old rate has to wait
// as before.
func (m *Meters) SetRate(r Rate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate = r
	if r.Unlimited {
		m.arrivals, m.shared = nil, time.Time{}
	}
}

// Take reports whether n units are allowed for a key, and counts them if they are.
// With n = 0 it counts nothing, and reports whether one unit would be allowed.
func (m *Meters) Take(key string, n int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rate.Unlimited || m.rate == (Rate{}) {
		return true
	}
	at, k, own := m.arrival(key, now)
	each := float64(time.Second) / m.rate.PerSecond
	burst := time.Duration(float64(m.rate.Burst) * each)
	// No more than a burst has to fit: more units could never be allowed otherwise.
	cost := m.cost(n)
	if at.Sub(now)+min(max(cost, time.Duration(each)), burst) > burst {
		return false
	}
	if n > 0 {
		m.move(k, own, at.Add(cost))
	}
	return true
}

// arrival is the timestamp of a key, not before now. It is the key's own, or that of all
// new keys. Meters.mu is held.
func (m *Meters) arrival(key string, now time.Time) (at time.Time, k uint64, own bool) {
	if m.arrivals == nil {
		m.arrivals, m.seed = make(map[uint64]time.Time), maphash.MakeSeed()
	}
	k = maphash.String(m.seed, key)
	at, own = m.arrivals[k]
	if own = own || m.room(now); !own {
		at = m.shared
	}
	if at.Before(now) {
		at = now
	}
	return at, k, own
}

// move sets the timestamp of a key. Meters.mu is held.
func (m *Meters) move(k uint64, own bool, to time.Time) {
	if own {
		m.arrivals[k] = to
	} else {
		m.shared = to
	}
}

// cost is how far n units move a timestamp on. Meters.mu is held.
func (m *Meters) cost(n int) time.Duration {
	return time.Duration(min(float64(n)*float64(time.Second)/m.rate.PerSecond, math.MaxInt64/4))
}

// Charge counts n units for a key, whether or not they are allowed: they have been used.
func (m *Meters) Charge(key string, n int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n <= 0 || m.rate.Unlimited || m.rate == (Rate{}) {
		return
	}
	at, k, own := m.arrival(key, now)
	m.move(k, own, at.Add(m.cost(n)))
}

// Give takes back n units that Take has counted for a key, because what they were
// for did not happen.
func (m *Meters) Give(key string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rate.Unlimited || m.rate == (Rate{}) || m.arrivals == nil {
		return
	}
	cost := -time.Duration(min(float64(n)*float64(time.Second)/m.rate.PerSecond, math.MaxInt64/4))
	if k := maphash.String(m.seed, key); !m.arrivals[k].IsZero() {
		m.arrivals[k] = m.arrivals[k].Add(cost)
	} else if !m.shared.IsZero() {
		m.shared = m.shared.Add(cost)
	}
}

// room reports whether there is room for one more key. If need be it removes one
// whose timestamp has passed, but looks at only a few for that. Meters.mu is held.
func (m *Meters) room(now time.Time) bool {
	if m.most == 0 {
		m.most = maxKeys
	}
	if len(m.arrivals) < m.most {
		return true
	}
	looks := 8
	for k, at := range m.arrivals { // the order is random
		if !at.After(now) {
			delete(m.arrivals, k)
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}
