package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// maxKeys bounds the idempotency keys that a log remembers. Over it, an
// operation with a new key is refused: to forget one early would break the
// promise that it carries.
const maxKeys = 1 << 20

// keyWindow remembers the operations of the last KeyWindow that had a key.
type keyWindow struct {
	byKey map[Key]keyRecord
	order []keyRecord // oldest first; order[:gone] has left the map
	gone  int
}

type keyRecord struct {
	key    Key
	digest digest
	id     ID
	at     time.Time

	created bool
	value   []byte // that the answer told
}

// known decides an operation whose key is remembered, and reports whether it is.
func (w *keyWindow) known(now time.Time, op *Op, digest digest, r *Result) bool {
	w.expire(now)
	record, ok := w.byKey[op.Key]
	if !ok {
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

// room reports whether one more key can be remembered.
func (w *keyWindow) room() bool { return len(w.byKey) < maxKeys }

func (w *keyWindow) remember(now time.Time, op *Op, digest digest, r *Result) {
	if w.byKey == nil {
		w.byKey = map[Key]keyRecord{}
	}
	record := keyRecord{key: op.Key, digest: digest, id: r.ID, at: now, created: r.Created}
	if op.State != nil && op.State.Answer {
		record.value = op.State.Value
	}
	w.byKey[op.Key] = record
	w.order = append(w.order, record)
}

// expire forgets what is older than the window.
func (w *keyWindow) expire(now time.Time) {
	for w.gone < len(w.order) && now.Sub(w.order[w.gone].at) >= KeyWindow {
		delete(w.byKey, w.order[w.gone].key)
		w.order[w.gone] = keyRecord{}
		w.gone++
	}
	if w.gone > len(w.order)/2 {
		// A new one, so that a burst of keys does not hold memory for good.
		w.order, w.gone = slices.Clone(w.order[w.gone:]), 0
		if len(w.order) == 0 {
			w.byKey = nil
		}
	}
}

// digest tells an operation from another with the same key.
type digest [sha256.Size]byte

// Digest tells the operation from another one that is sent with the same key.
func (op *Op) Digest() [sha256.Size]byte { return op.digest() }

// digest is the zero digest without a key. Every field goes in with its length,
// so that no two operations are spelled alike.
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
	h.Sum(sum[:0])
	return sum
}
