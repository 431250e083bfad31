package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// maxKeys bounds the idempotency keys that a log remembers. Over it, an operation
// with a new key is refused, because to forget a key early would break its promise.
const maxKeys = 1 << 20

// keyWindow remembers the operations of the last KeyWindow that had a key.
//
// They are held in generations, each of what came within keySpan. A generation is
// dropped as a whole when all of it is past the window: to delete its keys would
// take long with the log's lock held, and would not give back the map's memory.
// Until then find ignores the keys that are past the window.
type keyWindow struct {
	max         int          // of keys
	count       int          // of records, in all generations
	generations []generation // oldest first; with the one being filled, 6 at most
}

// keySpan is how long a generation is filled. It is shorter than the window, so
// that a key past it that is used again is never in the generation it goes to.
const keySpan = time.Minute

type generation struct {
	began  time.Time
	byKey  map[Key]*keyRecord
	oldest *keyRecord
	newest *keyRecord
}

type keyRecord struct {
	key    Key
	digest digest
	id     ID
	at     time.Time
	next   *keyRecord // the one after it in its generation

	created bool
	value   []byte // that the answer told
}

// past reports whether the record is older than the window.
func (r *keyRecord) past(now time.Time) bool { return now.Sub(r.at) >= KeyWindow }

// known reports whether the operation's key is remembered. If so, it sets r to the
// first answer, or to ErrKeyReused if that was for another operation.
func (w *keyWindow) known(now time.Time, op *Op, digest digest, r *Result) bool {
	record := w.find(now, op.Key)
	if record == nil {
		return false
	}
	if record.digest != digest {
		r.Err = ErrKeyReused
	} else {
		r.ID, r.Repeated, r.Created = record.id, true, record.created
		if record.value != nil {
			r.State = &State{Value: record.value, Version: record.id}
		}
	}
	return true
}

// find returns the record of a key within the window, or nil.
func (w *keyWindow) find(now time.Time, key Key) *keyRecord {
	for _, g := range slices.Backward(w.generations) {
		if record, ok := g.byKey[key]; ok && !record.past(now) {
			return record
		}
	}
	return nil
}

// room reports whether one more key can be remembered, if need be in place of the
// oldest one, when that is past the window.
func (w *keyWindow) room(now time.Time) bool {
	if w.count < w.max {
		return true
	}
	g := &w.generations[0]
	if !g.oldest.past(now) {
		return false
	}
	delete(g.byKey, g.oldest.key)
	g.oldest = g.oldest.next
	w.count--
	return true
}

// remember adds an operation whose key is not known. If the clock was set back, its
// record gets the time of the one before, so that records are in the order of their
// times.
func (w *keyWindow) remember(now time.Time, op *Op, digest digest, r *Result) *keyRecord {
	record := &keyRecord{key: op.Key, digest: digest, id: r.ID, at: now, created: r.Created}
	if op.State != nil && op.State.Answer {
		record.value = op.State.Value
	}
	w.add(record)
	return record
}

// add adds a record at the end of the newest generation, or of another.
func (w *keyWindow) add(record *keyRecord) {
	var g *generation
	if n := len(w.generations); n > 0 {
		g = &w.generations[n-1]
		if record.at.Before(g.newest.at) {
			record.at = g.newest.at
		}
	}
	if g != nil && record.at.Sub(g.began) < keySpan {
		g.newest.next = record
	} else {
		w.generations = append(w.generations, generation{began: record.at, byKey: map[Key]*keyRecord{}, oldest: record})
		g = &w.generations[len(w.generations)-1]
	}
	g.newest = record
	g.byKey[record.key] = record
	w.count++
}

// takeBack removes the newest record. newest is the one before it in its generation,
// and generations how many there were before it was added.
func (w *keyWindow) takeBack(record, newest *keyRecord, generations int) {
	if len(w.generations) > generations {
		w.generations = slices.Delete(w.generations, generations, len(w.generations))
	} else {
		g := &w.generations[generations-1]
		delete(g.byKey, record.key)
		if g.newest = newest; newest != nil {
			newest.next = nil
		}
	}
	w.count--
}

// expire drops the generations that are past the window. It must be called before
// the other methods, with the same time. It is called also if no operation has a
// key, so that a burst of keys does not stay in memory until the next one.
func (w *keyWindow) expire(now time.Time) {
	n := 0
	for n < len(w.generations) && w.generations[n].newest.past(now) {
		w.count -= len(w.generations[n].byKey)
		n++
	}
	w.generations = slices.Delete(w.generations, 0, n)
}

// digest is a hash of an operation, to find out that a key is used for another one.
type digest [sha256.Size]byte

// Digest is a hash of what the operation asks for. Of two operations with the same
// key that differ in it, the log refuses the second with ErrKeyReused.
func (op *Op) Digest() [sha256.Size]byte { return op.digest() }

// digest is zero without a key. Every field is written with its length, so that no
// two operations are written alike.
func (op *Op) digest() (sum digest) {
	if op.Key == (Key{}) {
		return sum
	}
	h := sha256.New()
	var n [8]byte
	field := func(b []byte) {
		binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	h.Write([]byte{byte(op.Kind)})
	field([]byte(op.Channel))
	field([]byte(op.Event.Type))
	field([]byte(op.Event.ID))
	binary.LittleEndian.PutUint64(n[:], uint64(op.Event.Retry))
	h.Write(n[:])
	field(op.Event.Data)
	field([]byte(op.Except))
	if op.State != nil {
		op.State.spell(field)
	}
	op.Filter.spell(field)
	if op.HasEvent() && op.Kind == KindClose {
		field([]byte("last"))
	}
	h.Sum(sum[:0])
	return sum
}
