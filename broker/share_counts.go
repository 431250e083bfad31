package broker

import (
	"fmt"
	"time"
)

// The shares of what the log keeps: values, closed channels, and idempotency keys. Each node counts the
// values and the closed channels whose owner it knows, and the keys that it has sent to the log. What is on its
// way to the log counts already: many requests at once cannot exceed a share.

// valueCount is a number of values, and the size of them and of their names.
type valueCount struct{ count, bytes int }

func (v *valueCount) add(w valueCount, sign int) {
	v.count += sign * w.count
	v.bytes += sign * w.bytes
}

// keyCount is how many idempotency keys came in each of the last minutes.
type keyCount struct {
	minutes [6]int64 // since 1970
	counts  [6]int
}

// keyMinutes is how many minutes before this one are within KeyWindow.
const keyMinutes = int64(KeyWindow / time.Minute)

// sum is how many came within the window that ends in minute.
func (k *keyCount) sum(minute int64) (n int) {
	for i, m := range k.minutes {
		if m+keyMinutes >= minute {
			n += k.counts[i]
		}
	}
	return n
}

func (k *keyCount) add(minute int64, n int) {
	i := minute % int64(len(k.minutes))
	if k.minutes[i] != minute {
		k.minutes[i], k.counts[i] = minute, 0
	}
	k.counts[i] = max(k.counts[i]+n, 0)
}

// any reports whether some key is counted, also one that is past the window: see
// forgetKeys.
func (k *keyCount) any() bool { return k.counts != [6]int{} }

func minuteOf(ms uint64) int64 { return int64(ms / 60_000) }

// forgetKeys drops the counts of keys that are past the window, and the owners that
// have nothing else.
func (b *Broker) forgetKeys(now uint64) {
	minute := minuteOf(now)
	for _, own := range b.owners.byID {
		if own.keys.any() && own.keys.sum(minute) == 0 {
			own.keys = keyCount{}
			b.owners.release(own)
		}
	}
}

// hasOwned reports whether some operation counts in a share.
func hasOwned(ops []Op) bool {
	for i := range ops {
		if ops[i].Owner != 0 && (ops[i].Kind == KindState || ops[i].Kind == KindClose || ops[i].Key != (Key{})) {
			return true
		}
	}
	return false
}

// reserve counts what operations may add to the shares of their owners, before they
// are sent to the log; settle must follow. If a share has no room for one of them it
// returns its index, and counts nothing.
func (b *Broker) reserve(ops []Op) error {
	minute := minuteOf(b.now())
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range ops {
		err, counted := b.reserveOne(&ops[i], minute), i
		if err == nil && ops[i].oldKey && ops[i].Stage > ops[0].Stage {
			// The keys before it may be known: then they give back what they count.
			err, counted, ops[i].oldKey = ErrShareOfKeys, i+1, false
		}
		if err != nil {
			b.unreserve(ops[:counted], nil, minute)
			return &OpError{Index: i, Err: err}
		}
	}
	return nil
}

func (b *Broker) reserveOne(op *Op, minute int64) error {
	if op.Owner == 0 {
		return nil
	}
	own := b.owners.byID[op.Owner]
	if own == nil {
		own = &owner{} // so far
	}
	keyed := op.Key != (Key{}) && (op.State == nil || op.State.If.Kind != IfNever)
	if most := b.share(maxKeys); keyed && own.keys.sum(minute) >= most {
		if b.cluster != nil {
			return fmt.Errorf("%w; there may be %d of one caller", ErrShareOfKeys, most)
		}
		op.oldKey, keyed = true, false
	}
	var more valueCount
	if op.Kind == KindState {
		more = b.moreValues(op)
		count, bytes := b.share(b.cfg.MaxStates), b.share(b.cfg.MaxStateBytes)
		switch {
		case more.count > 0 && own.values.count+own.coming.count+more.count > count:
			return fmt.Errorf("%w: one caller may have %d of them", ErrShareOfValues, count)
		case more.bytes > 0 && own.values.bytes+own.coming.bytes+more.bytes > bytes:
			return fmt.Errorf("%w: those of one caller may have %d bytes", ErrShareOfValues, bytes)
		}
		op.State.coming = more
	}
	closes := op.Kind == KindClose && b.closedNow.byName[op.Channel] == nil
	if most := b.share(b.cfg.MaxChannels); closes && own.closed+own.closing >= most {
		return fmt.Errorf("%w: one caller may have %d of them; a channel is open again when its history is purged, or is too old", ErrShareOfClosed, most)
	}
	if keyed || closes || more != (valueCount{}) {
		own = b.owners.get(op.Owner)
		if closes {
			own.closing++
			op.Close.coming = true
		}
		own.coming.add(more, 1)
		if keyed {
			own.keys.add(minute, 1)
			op.counted = true
		}
	}
	return nil
}

// moreValues is what an operation adds to its owner's values if it is done. A value
// that does not grow remains whose it was.
func (b *Broker) moreValues(op *Op) valueCount {
	s := op.State
	if s.Value == nil || s.If.Kind == IfNever {
		return valueCount{}
	}
	size := rowBytes(op.Channel, s.Value)
	c := b.states.cell(op.Channel)
	if c == nil {
		if k := s.If.Kind; k == IfPresent || k == IfVersion || k == IfIdle {
			return valueCount{} // it is refused
		}
		return valueCount{1, size}
	}
	old := rowBytes(op.Channel, c.cur.Load().value)
	switch {
	case size <= old || s.If.Kind == IfAbsent:
		return valueCount{}
	case c.owner != nil && c.owner.id == op.Owner:
		return valueCount{0, size - old}
	}
	return valueCount{1, size}
}

// settle ends what reserve began: what was stored is counted since it was applied, and
// a key that was known, or came to nothing, is given back.
func (b *Broker) settle(ops []Op, results []Result) {
	minute := minuteOf(b.now())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unreserve(ops, results, minute)
}

func (b *Broker) unreserve(ops []Op, results []Result, minute int64) {
	for i := range ops {
		op := &ops[i]
		own := b.owners.byID[op.Owner]
		if op.Owner == 0 || own == nil {
			continue
		}
		if op.State != nil {
			own.coming.add(op.State.coming, -1)
			op.State.coming = valueCount{}
		}
		if op.Close != nil && op.Close.coming {
			own.closing--
			op.Close.coming = false
		}
		if op.counted && (results == nil || results[i].Repeated || results[i].Err != nil) {
			own.keys.add(minute, -1)
		}
		op.counted = false
		b.owners.release(own)
	}
}

// ownValue counts a value of c in the share of its owner: who has set it, or made it
// grow last.
func (b *Broker) ownValue(c *stateCell, old, next *stateVersion, id Owner) {
	own := c.owner
	if own != nil {
		own.values.add(valueCount{1, rowBytes(c.name, old.value)}, -1)
	}
	c.owner = own
	switch {
	case next.value == nil:
		c.owner = nil
	case old.value == nil || len(next.value) > len(old.value):
		c.owner = b.owners.get(id)
	}
	if c.owner != nil {
		c.owner.values.add(valueCount{1, rowBytes(c.name, next.value)}, 1)
	}
	if own != c.owner {
		b.owners.release(own)
	}
}

// disownValues takes all values out of the shares, and returns whose they were.
func (b *Broker) disownValues() map[string]Owner {
	of := map[string]Owner{}
	for _, c := range b.states.slots {
		if c != nil && c.owner != nil {
			of[c.name] = c.owner.id
			own := c.owner
			own.values.add(valueCount{1, rowBytes(c.name, c.cur.Load().value)}, -1)
			c.owner = nil
			b.owners.release(own)
		}
	}
	return of
}
