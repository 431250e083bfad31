package broker

import (
	"container/heap"
	"slices"
)

// stretch are the entries of a segment from i up to, not including, n. They do not change, and
// can be read without a lock, also when the history has dropped the segment.
type stretch struct {
	seg    *segment
	i, n   uint32
	before ID  // of the segment: what is prepended to its history changes it
	charge int // of the segment
}

// newMerge begins to merge the entries of stretches. It reuses their memory.
func newMerge(all []stretch) byEntry {
	h := byEntry(slices.DeleteFunc(all, func(r stretch) bool { return r.i >= r.n }))
	heap.Init(&h)
	return h
}

// next is the next entry in the order of ids, and its encoded event; false if there is
// none.
func (h *byEntry) next() (e *entry, block []byte, ok bool) {
	if len(*h) == 0 {
		return nil, nil, false
	}
	at := &(*h)[0]
	e, block = &at.seg.index[at.i], at.seg.bytes(at.i, at.i+1)
	if at.i++; at.i < at.n {
		heap.Fix(h, 0)
	} else {
		heap.Pop(h)
	}
	return e, block, true
}

// byEntry is a heap of stretches that have an entry, the lowest id first.
type byEntry []stretch

func (h byEntry) Len() int { return len(h) }
func (h byEntry) Less(i, j int) bool {
	return h[j].seg.index[h[j].i].id.After(h[i].seg.index[h[i].i].id)
}
func (h byEntry) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byEntry) Push(x any)   { *h = append(*h, x.(stretch)) }

func (h *byEntry) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = stretch{} // its segment may be dropped
	*h = old[:len(old)-1]
	return x
}
