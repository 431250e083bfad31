package evstream

import "time"

// expiring is a map whose entries leave with time, and which holds no more
// than limit of them. It is not safe for concurrent use.
type expiring[K comparable, V any] struct {
	limit   int
	entries map[K]expiringEntry[V]
	sweepAt int       // how many entries make a sweep worth its time
	swept   time.Time // when it was done last
}

type expiringEntry[V any] struct {
	value V
	until time.Time // zero: it stays
}

func (e expiringEntry[V]) gone(now time.Time) bool { return !e.until.IsZero() && !now.Before(e.until) }

// get returns the value of a key that has not left.
func (e *expiring[K, V]) get(key K, now time.Time) (V, bool) {
	entry, ok := e.entries[key]
	if !ok || entry.gone(now) {
		var none V
		return none, false
	}
	return entry.value, true
}

// put sets the value of a key until a time; a zero time is without end. It
// reports false, and changes nothing, if there is no room for a new one.
func (e *expiring[K, V]) put(key K, value V, until, now time.Time) bool {
	if _, ok := e.entries[key]; !ok && !e.room(now) {
		return false
	}
	if e.entries == nil {
		e.entries = make(map[K]expiringEntry[V])
	}
	e.entries[key] = expiringEntry[V]{value, until}
	return true
}

// room makes room. It looks through all entries when there are twice as many
// as were left the last time, or when it is full, and then once a second: a
// flood of new keys does not make each of them expensive.
func (e *expiring[K, V]) room(now time.Time) bool {
	full := len(e.entries) >= e.limit
	if full && now.Sub(e.swept) >= time.Second || !full && len(e.entries) >= max(e.sweepAt, 1024) {
		for key, entry := range e.entries {
			if entry.gone(now) {
				delete(e.entries, key)
			}
		}
		e.swept, e.sweepAt = now, 2*len(e.entries)
	}
	return len(e.entries) < e.limit
}

// remove takes a key out.
func (e *expiring[K, V]) remove(key K) { delete(e.entries, key) }
