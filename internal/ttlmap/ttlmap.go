// Package ttlmap is a map whose entries expire, with a bound on their number.
package ttlmap

import (
	"iter"
	"time"
)

// Map is a map whose entries expire, with at most Limit of them. The zero Map has a
// Limit of 0, and takes in nothing. It is not safe for concurrent use. The owner
// passes in the time.
type Map[K comparable, V any] struct {
	// Limit is the largest number of entries.
	Limit int
	// Expired, if it is not nil, is called with each value that is removed because
	// it has expired. It must not use the Map.
	Expired func(V)

	entries map[K]entry[V]
	sweepAt int       // Set sweeps when there are so many entries
	swept   time.Time // the time of the last sweep
}

type entry[V any] struct {
	value V
	until time.Time // zero: never
}

func (e entry[V]) expired(now time.Time) bool { return !e.until.IsZero() && !now.Before(e.until) }

// Get returns the value of a key that has not expired.
func (m *Map[K, V]) Get(key K, now time.Time) (V, bool) {
	e, ok := m.entries[key]
	if !ok || e.expired(now) {
		var none V
		return none, false
	}
	return e.value, true
}

// Entry returns the value of a key and when it expires. Unlike Get it also returns
// one that has expired and was not removed yet.
func (m *Map[K, V]) Entry(key K) (value V, until time.Time, ok bool) {
	e, ok := m.entries[key]
	return e.value, e.until, ok
}

// Has reports whether a key has an entry, expired or not.
func (m *Map[K, V]) Has(key K) bool {
	_, ok := m.entries[key]
	return ok
}

// Len is the number of entries, expired or not.
func (m *Map[K, V]) Len() int { return len(m.entries) }

// All yields the entries that have not expired, in no order.
func (m *Map[K, V]) All(now time.Time) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key, e := range m.entries {
			if !e.expired(now) && !yield(key, e.value) {
				return
			}
		}
	}
}

// Set sets the value of a key, which expires at until; the zero time is never. It
// reports false, and changes nothing, if the key is new and the map is full.
func (m *Map[K, V]) Set(key K, value V, until, now time.Time) bool {
	if _, ok := m.entries[key]; !ok && !m.room(now) {
		return false
	}
	if m.entries == nil {
		m.entries = make(map[K]entry[V])
	}
	m.entries[key] = entry[V]{value, until}
	return true
}

// Remove removes a key. It does not call Expired.
func (m *Map[K, V]) Remove(key K) { delete(m.entries, key) }

// room reports whether there is room for one more entry. It sweeps when the number
// of entries has doubled since the last sweep, and when the map is full, but then at
// most once a second, so that many new keys are cheap.
func (m *Map[K, V]) room(now time.Time) bool {
	switch full := len(m.entries) >= m.Limit; {
	case full:
		m.Tidy(now)
	case len(m.entries) >= max(m.sweepAt, 1024):
		m.Sweep(now)
	}
	return len(m.entries) < m.Limit
}

// Tidy is Sweep, at most once a second.
func (m *Map[K, V]) Tidy(now time.Time) {
	if now.Sub(m.swept) >= time.Second {
		m.Sweep(now)
	}
}

// Sweep removes all entries that have expired, and calls Expired with each. It takes
// time in proportion to the number of entries.
func (m *Map[K, V]) Sweep(now time.Time) {
	for key, e := range m.entries {
		if !e.expired(now) {
			continue
		}
		delete(m.entries, key)
		if m.Expired != nil {
			m.Expired(e.value)
		}
	}
	m.swept, m.sweepAt = now, 2*len(m.entries)
}
