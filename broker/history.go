package broker

import (
	"iter"
	"math"
	"slices"
	"sync/atomic"
)

// history is a sequence of encoded events in ascending order of their ids, and an
// index of them. It is appended to at its end and trimmed at its beginning, and
// held in segments:
//
//	oldest ─▶ segment ─▶ segment ─▶ tail      each with events that do not change
//	             │                   │
//	            kept                end
//
// One goroutine at a time may call the methods: Broker.mu guards them and the
// fields. Readers are other goroutines, and take no lock: a reader holds a chain
// and a place, moves with settle, and reads what segments have below their n. What
// it reads stays as it is even when the history drops it.
type history struct {
	// chain tells readers whether their place is still in this history. It is
	// replaced when the history is emptied.
	chain  atomic.Pointer[chain]
	oldest *segment // the first that is held
	tail   *segment // the last: where events are appended

	// kept is the first entry that a new reader may begin at. The entries before
	// it are held for readers that are connected.
	kept place
	// base is the number of the first entry that it ever had, but for those that were
	// prepended since: what is not kept is lost if kept is not there.
	base uint64
	// trimmed is the newest id that cannot be replayed any more: a reader whose
	// cursor is below it has a gap.
	trimmed ID

	size int // memory of the segments that are held
}

// chain is one life of a history: it ends when the history is emptied.
type chain struct {
	// gone is the sequence number of the first entry that is still held.
	gone atomic.Uint64
}

// place is an entry of a history, or the one to come.
type place struct {
	seg *segment
	i   uint32
}

// init makes h an empty history.
func (h *history) init() {
	h.tail = emptySegment(nil)
	h.oldest, h.kept = h.tail, h.end()
	h.chain.Store(&chain{})
}

// numberFrom gives the first entry of a history that never had one a number.
func (h *history) numberFrom(n uint64) { h.tail.first, h.base = n, n }

// beginAfter says that the first entry of a history that never had one follows id.
func (h *history) beginAfter(id ID) { h.tail.before = id }

// prepend puts the entries of older, which has some, before those of h. All ids of older
// must be below; older must not be used any more. Readers of h stay where they are, and
// there must be none if h has no entry: see empty.
func (h *history) prepend(older *history) {
	first := h.oldest.first - (older.end().seq() - older.oldest.first)
	last := older.tail
	for seg := older.oldest; seg != nil; seg = seg.next.Load() {
		seg.first, first = first, first+uint64(seg.n.Load())
	}
	if h.size == 0 {
		h.tail = last
	} else {
		last.connect(h.oldest)
	}
	h.oldest, h.kept = older.oldest, older.kept.settle()
	h.chain.Load().gone.Store(h.oldest.first)
	h.size += older.size
}

// unbroken reports whether h keeps all entries that it ever had.
func (h *history) unbroken() bool { return h.kept.seq() == h.base }

// prependSegment puts a segment before the entries of h, which is unbroken. All ids in it
// must be below. Readers of h stay where they are; if h has no entry there must be none.
func (h *history) prependSegment(seg *segment) {
	seg.first = h.oldest.first - uint64(seg.n.Load())
	if h.size == 0 {
		h.tail = seg
	} else {
		h.oldest.before = seg.idBefore(seg.n.Load())
		seg.connect(h.oldest)
	}
	h.oldest, h.kept, h.base = seg, place{seg, 0}, seg.first
	h.chain.Load().gone.Store(seg.first)
	h.size += seg.charge()
}

// release drops the first segment as one that has nothing to lose: what it keeps is not
// lost with it. It reports what dropOldest does.
func (h *history) release() (wasTail bool) {
	if n := h.oldest.n.Load(); h.kept.seq() < h.oldest.first+uint64(n) {
		h.kept = place{h.oldest, n}
	}
	return h.dropOldest()
}

// seq numbers the entries of a history from 0 on, whatever becomes of them.
func (p place) seq() uint64 { return p.seg.first + uint64(p.i) }

// settle moves a place that is past the end of a segment to the next one.
func (p place) settle() place {
	for p.i == p.seg.n.Load() {
		next := p.seg.next.Load()
		if next == nil {
			break
		}
		p = place{next, 0}
	}
	return p
}

// entry is the entry at p, if there is one yet. p must be settled.
func (p place) entry() (*entry, bool) {
	if p.i < p.seg.n.Load() {
		return &p.seg.index[p.i], true
	}
	return nil, false
}

// settle moves a reader to the next entry that there is, or will be. It is false
// when the history has dropped that entry, or was emptied: then the reader has to
// find its place again. It needs no lock.
func (h *history) settle(c *chain, at *place) bool {
	if c != h.chain.Load() {
		return false
	}
	for {
		next := at.seg.next.Load() // before n: with a next, n is final
		if at.i < at.seg.n.Load() || next == nil {
			return true
		}
		if next.first < c.gone.Load() {
			return false
		}
		*at = place{next, 0}
	}
}

// end is the place of the entry to come.
func (h *history) end() place { return place{h.tail, h.tail.n.Load()} }

// newest is the id of the last entry, zero if there never was one.
func (h *history) newest() ID { return h.tail.idBefore(h.tail.n.Load()) }

// oldestKept is the id of the first entry that a reader may begin at.
func (h *history) oldestKept() (ID, bool) {
	e, ok := h.kept.settle().entry()
	if !ok {
		return ID{}, false
	}
	return e.id, true
}

// count is how many entries are kept.
func (h *history) count() int { return int(h.end().seq() - h.kept.seq()) }

// after is the place of the first kept entry above id.
func (h *history) after(id ID) place {
	p := h.kept.settle()
	for {
		n := p.seg.n.Load()
		next := p.seg.next.Load()
		if next == nil || n > 0 && p.seg.index[n-1].id.After(id) {
			return place{p.seg, max(p.i, p.seg.after(id, n))}.settle()
		}
		p = place{next, 0}
	}
}

// all iterates over the kept entries and their encoded events, oldest first.
func (h *history) all() iter.Seq2[*entry, []byte] {
	return func(yield func(*entry, []byte) bool) {
		for at := h.kept.settle(); ; at = at.settle() {
			e, ok := at.entry()
			if !ok || !yield(e, at.seg.bytes(at.i, at.i+1)) {
				return
			}
			at.i++
		}
	}
}

// backward iterates over the places of the kept entries, newest first.
func (h *history) backward() iter.Seq[place] {
	return func(yield func(place) bool) {
		kept := h.kept.settle()
		var segments []*segment
		for seg := kept.seg; seg != nil; seg = seg.next.Load() {
			segments = append(segments, seg)
		}
		for _, seg := range slices.Backward(segments) {
			first := uint32(0)
			if seg == kept.seg {
				first = kept.i
			}
			for i := seg.n.Load(); i > first; i-- {
				if !yield(place{seg, i - 1}) {
					return
				}
			}
		}
	}
}

// nextSegment makes a segment with room for size bytes and for more of the like,
// up to limit. It is not a part of h before it is linked.
func (h *history) nextSegment(size, limit int) *segment { return newSegment(h.tail, size, limit) }

// link makes next the tail.
func (h *history) link(next *segment) {
	if h.oldest == h.tail && h.tail.n.Load() == 0 {
		h.oldest = next // an empty tail holds nothing worth holding
	}
	h.tail.connect(next)
	h.tail = next
	h.kept = h.kept.settle()
	h.size += next.charge()
}

// append adds an encoded event, which must fit in the tail. Its id must be above
// all others.
func (h *history) append(id ID, m *meta, own bool, block []byte) {
	h.tail.append(id, m, own, block)
	h.size += m.charge()
	if m.live {
		h.lose(id)
	}
}

// trim stops keeping entries that are older than the millisecond oldest, and all but
// the newest count.
func (h *history) trim(count int, oldest uint64) {
	for {
		h.kept = h.kept.settle()
		e, ok := h.kept.entry()
		if !ok || e.id.Ms >= oldest && h.count() <= count {
			return
		}
		h.kept.i++
		h.lose(e.id)
	}
}

// lose notes that the entry id cannot be replayed.
func (h *history) lose(id ID) {
	if id.After(h.trimmed) {
		h.trimmed = id
	}
}

// unkept is the id of the last entry of the oldest segment, if none of its
// entries is kept.
func (h *history) unkept() (ID, bool) {
	n := h.oldest.n.Load()
	if n == 0 || h.kept.seq() < h.oldest.first+uint64(n) {
		return ID{}, false
	}
	return h.oldest.idBefore(n), true
}

// dropOldest drops the first segment, kept or not. Readers that are in it may
// finish it; one that is further behind has fallen off. It reports whether that
// was the tail: then readers that wait in it are to be woken, so that they let go
// of it. Readers in the segment before it do not come to it any more.
func (h *history) dropOldest() (wasTail bool) {
	seg := h.oldest
	if wasTail = seg == h.tail; wasTail {
		next := emptySegment(seg)
		seg.connect(next)
		h.tail = next
	}
	n := seg.n.Load()
	if last := seg.first + uint64(n); h.kept.seq() < last {
		h.lose(seg.idBefore(n))
		h.kept = place{seg, n}
	}
	h.oldest = seg.next.Load()
	h.kept = h.kept.settle()
	h.chain.Load().gone.Store(h.oldest.first)
	seg.cut()
	h.size -= seg.charge()
	return wasTail
}

// empty drops all entries, and ends the chain: readers have to find their
// places again. Ids go on above the newest.
func (h *history) empty() {
	h.lose(h.newest())
	h.chain.Load().gone.Store(math.MaxUint64)
	for seg := h.oldest; seg != nil; seg = seg.next.Load() {
		seg.cut()
	}
	h.tail = emptySegment(h.tail)
	h.oldest, h.kept = h.tail, h.end()
	c := &chain{}
	c.gone.Store(h.tail.first)
	h.chain.Store(c)
	h.size = 0
}

// rewind lets an empty history begin with any id.
func (h *history) rewind() { h.tail.before = ID{} }
