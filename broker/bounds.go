package broker

import (
	"container/heap"
	"time"
)

// How histories stay within their bounds. All of it under Broker.mu.

// liveTail is how long entries that a channel does not keep are held for its
// connected readers: as long as a write may stall.
const liveTail = 10 * time.Second

// append adds an encoded event to f. What is over a bound with it leaves.
func (b *Broker) append(f *feed, id ID, m *meta, own bool, block []byte) {
	extra := m.charge()
	if extra > 0 {
		b.makeRoom(f, extra)
	}
	if !f.tail.fits(len(block)) {
		next := f.nextSegment(len(block), max(f.policy.Bytes/8, minSegment))
		b.makeRoom(f, next.charge())
		f.link(next)
		b.charge(f)
	}
	f.append(id, m, own, block)
	if extra > 0 {
		b.charge(f)
	}
	f.expire(id.Ms)
	b.release(f, id.Ms)
}

// makeRoom drops the oldest segments, first of f and then of the largest
// histories, until size bytes more are within the bounds of f and of the broker.
func (b *Broker) makeRoom(f *feed, size int) {
	for f.size > 0 && f.size+size > f.policy.Bytes {
		b.dropOldest(f)
	}
	b.shrink(size)
}

// shrink drops the oldest segments of the largest histories until size bytes more
// are within the bound of the broker.
func (b *Broker) shrink(size int) {
	for b.bytes+size > b.cfg.MaxBytes && len(b.largest) > 0 {
		b.dropOldest(b.largest[0])
	}
}

// release drops segments of which nothing is kept, unless connected readers may
// still need them.
func (b *Broker) release(f *feed, now uint64) {
	for f.size > 0 {
		last, ok := f.unkept()
		if !ok || len(f.readers) > 0 && last.Ms+uint64(liveTail/time.Millisecond) > now {
			return
		}
		b.dropOldest(f)
	}
}

// dropOldest drops the first segment of f, whether its entries are kept or not.
func (b *Broker) dropOldest(f *feed) {
	if f.dropOldest(!b.merging) {
		b.touch(f)
	}
	b.charge(f)
}

// empty drops all entries of f. Connected readers find their place again by id.
func (b *Broker) empty(f *feed) {
	f.empty()
	b.charge(f)
	b.touch(f)
}

// charge brings the account up to date after the size of f has changed.
func (b *Broker) charge(f *feed) { b.account(f, f.size) }

// discharge takes f, which is dropped, out of the account.
func (b *Broker) discharge(f *feed) { b.account(f, 0) }

func (b *Broker) account(f *feed, size int) {
	b.bytes += size - f.charged
	f.charged = size
	switch {
	case f.heap >= 0 && size == 0:
		heap.Remove(&b.largest, f.heap)
	case f.heap >= 0:
		heap.Fix(&b.largest, f.heap)
	case size > 0:
		heap.Push(&b.largest, f)
	}
}

// bySize is a heap of the feeds that hold memory, the largest first.
type bySize []*feed

func (h bySize) Len() int           { return len(h) }
func (h bySize) Less(i, j int) bool { return h[i].charged > h[j].charged }
func (h bySize) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

func (h *bySize) Push(x any) {
	f := x.(*feed)
	f.heap = len(*h)
	*h = append(*h, f)
}

func (h *bySize) Pop() any {
	old := *h
	f := old[len(old)-1]
	f.heap = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return f
}
