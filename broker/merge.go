package broker

import "container/heap"

// mergePlaces calls f for the entries of several histories from places on, in the
// order of their ids, up to until. It reuses places. Broker.mu is held.
func mergePlaces(places []place, until ID, f func(e *entry, block []byte)) {
	h := byEntry(places[:0])
	for _, at := range places {
		if _, ok := at.entry(); ok {
			h = append(h, at)
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		at := &h[0]
		e, _ := at.entry()
		if e.id.After(until) {
			return
		}
		f(e, at.seg.bytes(at.i, at.i+1))
		at.i++
		*at = at.settle()
		if _, ok := at.entry(); ok {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
}

// byEntry is a heap of places that have an entry, the lowest id first.
type byEntry []place

func (h byEntry) Len() int { return len(h) }
func (h byEntry) Less(i, j int) bool {
	return h[j].seg.index[h[j].i].id.After(h[i].seg.index[h[i].i].id)
}
func (h byEntry) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byEntry) Push(x any)   { *h = append(*h, x.(place)) }

func (h *byEntry) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
