package ttlmap

import "time"

// Shared is a map whose entries expire, each of an owner, with at most Limit entries,
// and at most Share of one owner. Where there is no room, an owner's own oldest entry
// makes room for its new one; and where the whole map is full, the oldest of the owner
// that has the most does, so that one who has few always gets in. The zero Shared
// takes in nothing. It is not safe for concurrent use. The caller passes in the time.
type Shared[K comparable, V any] struct {
	// Limit is the largest number of entries, and Share of those of one owner.
	Limit, Share int
	// Spare, if it is not nil, reports whether an entry should stay: it makes room
	// only where its owner has no other. It must not use the Shared.
	Spare func(K) bool
	// Dropped, if it is not nil, is called with each entry that has made room for
	// another. It must not use the Shared.
	Dropped func(K, V)

	entries map[K]*shared[K, V]
	owners  map[string]*owner[K, V]
	levels  [][]*owner[K, V] // owners by the number of their entries
	swept   time.Time
}

// shared is an entry, in the list of its owner.
type shared[K comparable, V any] struct {
	key            K
	value          V
	until          time.Time
	owner          *owner[K, V]
	older, younger *shared[K, V]
}

// owner has the list of its entries, oldest first.
type owner[K comparable, V any] struct {
	name             string
	oldest, youngest *shared[K, V]
	count, at        int // levels[count][at] is the owner
}

// Len is the number of entries, expired or not.
func (m *Shared[K, V]) Len() int { return len(m.entries) }

// LenOf is the number of entries of an owner, expired or not.
func (m *Shared[K, V]) LenOf(name string) int {
	if o := m.owners[name]; o != nil {
		return o.count
	}
	return 0
}

// Get returns the value of a key that has not expired.
func (m *Shared[K, V]) Get(key K, now time.Time) (value V, ok bool) {
	value, until, ok := m.Entry(key)
	if !ok || !now.Before(until) {
		var none V
		return none, false
	}
	return value, true
}

// Entry returns the value of a key and when it expires, also of one that has expired
// and was not removed yet.
func (m *Shared[K, V]) Entry(key K) (value V, until time.Time, ok bool) {
	e, ok := m.entries[key]
	if !ok {
		return value, until, false
	}
	return e.value, e.until, true
}

// Touch makes a key the youngest of its owner.
func (m *Shared[K, V]) Touch(key K) {
	if e := m.entries[key]; e != nil {
		e.unlink()
		e.link()
	}
}

// Set sets the value of a key of an owner, which expires at until, and makes it the
// owner's youngest. A key that is there stays its owner's. It reports false, and
// changes nothing, if the key is new, the map is full, and nobody has more entries
// than the owner would have.
func (m *Shared[K, V]) Set(key K, name string, value V, until, now time.Time) bool {
	if e := m.entries[key]; e != nil {
		e.value, e.until = value, until
		m.Touch(key)
		return true
	}
	o := m.owners[name]
	if len(m.entries) >= m.Limit || o != nil && o.count >= m.Share {
		m.tidy(now)
		o = m.owners[name]
	}
	switch full := len(m.entries) >= m.Limit; {
	case m.Limit <= 0 || m.Share <= 0:
		return false
	case o != nil && o.count >= m.Share:
		m.yield(o)
	case full:
		heaviest := m.heaviest()
		count := 0
		if o != nil {
			count = o.count
		}
		switch {
		case heaviest.count > count+1:
			m.yield(heaviest)
		case o != nil:
			m.yield(o)
		default:
			return false
		}
	}
	if m.entries == nil {
		m.entries, m.owners = make(map[K]*shared[K, V]), make(map[string]*owner[K, V])
	}
	if o = m.owners[name]; o == nil {
		o = &owner[K, V]{name: name}
		m.owners[name] = o
		m.place(o)
	}
	e := &shared[K, V]{key: key, value: value, until: until, owner: o}
	m.entries[key] = e
	e.link()
	m.count(o, 1)
	return true
}

// Remove removes a key.
func (m *Shared[K, V]) Remove(key K) {
	e := m.entries[key]
	if e == nil {
		return
	}
	delete(m.entries, key)
	e.unlink()
	m.count(e.owner, -1)
	if e.owner.count == 0 {
		m.displace(e.owner)
		delete(m.owners, e.owner.name)
	}
}

// tidy removes what has expired, at most once a second.
func (m *Shared[K, V]) tidy(now time.Time) {
	if now.Sub(m.swept) < time.Second {
		return
	}
	m.swept = now
	for key, e := range m.entries {
		if !now.Before(e.until) {
			m.Remove(key)
		}
	}
}

// yield removes the oldest entry of an owner that is not to be spared, or else the
// oldest.
func (m *Shared[K, V]) yield(o *owner[K, V]) {
	gone := o.oldest
	for e := o.oldest; m.Spare != nil && e != nil; e = e.younger {
		if !m.Spare(e.key) {
			gone = e
			break
		}
	}
	m.Remove(gone.key)
	if m.Dropped != nil {
		m.Dropped(gone.key, gone.value)
	}
}

// heaviest is an owner that has the most entries; there must be one.
func (m *Shared[K, V]) heaviest() *owner[K, V] {
	for len(m.levels[len(m.levels)-1]) == 0 {
		m.levels = m.levels[:len(m.levels)-1]
	}
	return m.levels[len(m.levels)-1][0]
}

// count adds n to the number of an owner's entries.
func (m *Shared[K, V]) count(o *owner[K, V], n int) {
	m.displace(o)
	o.count += n
	m.place(o)
}

// place puts an owner into the level of its count.
func (m *Shared[K, V]) place(o *owner[K, V]) {
	for len(m.levels) <= o.count {
		m.levels = append(m.levels, nil)
	}
	o.at = len(m.levels[o.count])
	m.levels[o.count] = append(m.levels[o.count], o)
}

// displace takes an owner out of its level.
func (m *Shared[K, V]) displace(o *owner[K, V]) {
	level := m.levels[o.count]
	last := level[len(level)-1]
	level[o.at], last.at = last, o.at
	level[len(level)-1] = nil
	m.levels[o.count] = level[:len(level)-1]
}

// link makes an entry the youngest of its owner.
func (e *shared[K, V]) link() {
	o := e.owner
	e.older, e.younger = o.youngest, nil
	if o.youngest != nil {
		o.youngest.younger = e
	} else {
		o.oldest = e
	}
	o.youngest = e
}

// unlink takes an entry out of its owner's list.
func (e *shared[K, V]) unlink() {
	o := e.owner
	if e.older != nil {
		e.older.younger = e.younger
	} else {
		o.oldest = e.younger
	}
	if e.younger != nil {
		e.younger.older = e.older
	} else {
		o.youngest = e.older
	}
}
