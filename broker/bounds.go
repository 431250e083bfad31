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
	b.shrink(f, size)
}

// shrink drops the oldest segments of the largest histories until size bytes more, of
// a history that grows, are within the bound of the broker.
func (b *Broker) shrink(growing *feed, size int) {
	for b.bytes+size > b.cfg.MaxBytes {
		f := b.yieldBytes(growing)
		if f == nil {
			return
		}
		b.dropOldest(f)
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
	b.capture(f)
	last := f.oldest.idBefore(f.oldest.n.Load())
	if f.dropOldest() {
		b.touch(f)
	}
	if f.pattern != nil {
		f.begins = latest(f.begins, last)
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
	more := size - f.charged
	b.bytes += more
	f.charged = size
	b.largest.update(f)
	if own := f.owner; own != nil {
		own.bytes += more
		own.largest.update(f)
		heap.Fix(&b.owners.byBytes, own.heap)
	}
}

// sizeHeap is a heap of the feeds that hold memory, the largest first.
type sizeHeap struct {
	feeds []*feed
	own   bool // it is one of an owner
}

// update puts f where it belongs after its size has changed.
func (h *sizeHeap) update(f *feed) {
	switch at := *h.index(f); {
	case at >= 0 && f.charged == 0:
		heap.Remove(h, at)
	case at >= 0:
		heap.Fix(h, at)
	case f.charged > 0:
		heap.Push(h, f)
	}
}

func (h *sizeHeap) index(f *feed) *int {
	if h.own {
		return &f.heap[1]
	}
	return &f.heap[0]
}

func (h *sizeHeap) Len() int           { return len(h.feeds) }
func (h *sizeHeap) Less(i, j int) bool { return h.feeds[i].charged > h.feeds[j].charged }
func (h *sizeHeap) Swap(i, j int) {
	h.feeds[i], h.feeds[j] = h.feeds[j], h.feeds[i]
	*h.index(h.feeds[i]), *h.index(h.feeds[j]) = i, j
}

// Push implements heap.Interface.
func (h *sizeHeap) Push(x any) {
	f := x.(*feed)
	*h.index(f) = len(h.feeds)
	h.feeds = append(h.feeds, f)
}

// Pop implements heap.Interface.
func (h *sizeHeap) Pop() any {
	f := h.feeds[len(h.feeds)-1]
	*h.index(f) = -1
	h.feeds[len(h.feeds)-1] = nil
	h.feeds = h.feeds[:len(h.feeds)-1]
	return f
}
