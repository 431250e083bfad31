package broker

import (
	"container/heap"
	"math"
	"time"
)

// liveTail is how long entries that a channel does not keep are held for its
// connected readers: as long as a write may stall.
const liveTail = 10 * time.Second

// Appending and letting go. All of it under Broker.mu.

// append adds an encoded event to s.
func (b *Broker) append(s *source, id ID, m *meta, own bool, block []byte) {
	extra := m.charge()
	if extra > 0 {
		b.makeRoom(s, extra)
	}
	if !s.tail.fits(len(block)) {
		limit := max(s.policy.Bytes/8, minSegment)
		next := newSegment(s.tail, len(block), limit)
		b.makeRoom(s, next.charge())
		b.link(s, next)
	}
	s.tail.append(id, m, own, block)
	if extra > 0 {
		b.recharge(s, extra)
	}
	if m.live {
		s.lose(id)
	}
	s.trim(id.Ms)
	b.release(s, id.Ms)
}

// link makes next the tail of s.
func (b *Broker) link(s *source, next *segment) {
	if s.oldest == s.tail && s.tail.n.Load() == 0 {
		s.oldest = next // an empty tail holds nothing worth holding
	}
	s.tail.connect(next)
	s.tail = next
	s.kept = s.kept.settle()
	b.recharge(s, next.charge())
}

// makeRoom lets histories yield until size bytes more are within the bounds of
// s and of the broker.
func (b *Broker) makeRoom(s *source, size int) {
	for s.charge > 0 && s.charge+size > s.policy.Bytes {
		b.dropOldest(s)
	}
	b.shrink(size)
}

// shrink makes the largest histories yield until size bytes more are within
// the bound of the broker.
func (b *Broker) shrink(size int) {
	for b.bytes+size > b.cfg.MaxBytes && len(b.largest) > 0 {
		b.dropOldest(b.largest[0])
	}
}

// release drops segments of which nothing is kept, unless connected readers
// may still need them.
func (b *Broker) release(s *source, now uint64) {
	for s.charge > 0 {
		seg := s.oldest
		n := seg.n.Load()
		if n == 0 || s.kept.seq() < seg.first+uint64(n) {
			return
		}
		held := seg.index[n-1].id.Ms+uint64(liveTail/time.Millisecond) > now
		if len(s.subs) > 0 && held {
			return
		}
		b.dropOldest(s)
	}
}

// dropOldest lets go of the first segment of s, kept or not. Readers that are
// in it may finish it; one that is further behind has a gap.
func (b *Broker) dropOldest(s *source) {
	seg := s.oldest
	if seg == s.tail {
		next := emptySegment(seg)
		seg.connect(next)
		s.tail = next
		b.touch(s) // readers that wait in seg move on, and let go of it
	}
	n := seg.n.Load()
	if last := seg.first + uint64(n); s.kept.seq() < last {
		s.lose(seg.idBefore(n))
		s.kept = place{seg, n}
	}
	s.oldest = seg.next.Load()
	s.kept = s.kept.settle()
	s.chain.Load().gone.Store(s.oldest.first)
	if !b.merging {
		seg.cut()
	}
	b.recharge(s, -seg.charge())
}

// reset empties s. Connected readers find their place again by id.
func (b *Broker) reset(s *source) {
	if last := s.newest(); last.After(s.trimmed) {
		s.trimmed = last
	}
	s.chain.Load().gone.Store(math.MaxUint64)
	for seg := s.oldest; seg != nil; seg = seg.next.Load() {
		seg.cut()
	}
	s.tail = emptySegment(s.tail)
	s.oldest, s.kept = s.tail, s.end()
	c := &chain{}
	c.gone.Store(s.tail.first)
	s.chain.Store(c)
	b.recharge(s, -s.charge)
	b.touch(s)
}

// recharge accounts for memory that s took or let go of.
func (b *Broker) recharge(s *source, by int) {
	s.charge += by
	b.bytes += by
	switch {
	case s.heap >= 0 && s.charge == 0:
		heap.Remove(&b.largest, s.heap)
	case s.heap >= 0:
		heap.Fix(&b.largest, s.heap)
	case s.charge > 0:
		heap.Push(&b.largest, s)
	}
}

// bySize is a heap of the histories that hold memory, the largest first.
type bySize []*source

func (h bySize) Len() int           { return len(h) }
func (h bySize) Less(i, j int) bool { return h[i].charge > h[j].charge }
func (h bySize) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

func (h *bySize) Push(x any) {
	s := x.(*source)
	s.heap = len(*h)
	*h = append(*h, s)
}

func (h *bySize) Pop() any {
	old := *h
	s := old[len(old)-1]
	s.heap = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
