package redisadapter

import (
	"container/heap"
	"context"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// applied knows the newest id that the follower has applied, and wakes the
// callers that wait for an id.
type applied struct {
	mu        sync.Mutex
	following bool
	upTo      broker.ID
	waiting   byID
}

type waiter struct {
	id    broker.ID
	index int
	done  chan bool // receives one value: whether the entry was applied
}

// begin notes that there is a follower, which has applied all up to id.
func (a *applied) begin(id broker.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.following, a.upTo = true, id
	a.wake(true)
}

// reached notes that the follower has applied all up to id.
func (a *applied) reached(id broker.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id.After(a.upTo) {
		a.upTo = id
		a.wake(true)
	}
}

// void notes that the log has lost what was applied above id: to wait for that
// fails.
func (a *applied) void(id broker.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upTo = id
	for len(a.waiting) > 0 {
		w := heap.Pop(&a.waiting).(*waiter)
		w.done <- !w.id.After(id)
	}
}

// end notes that there is no follower any more: nobody waits then.
func (a *applied) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.following = false
	for len(a.waiting) > 0 {
		heap.Pop(&a.waiting).(*waiter).done <- true
	}
}

// wake wakes those who wait for what has been applied. a.mu is held.
func (a *applied) wake(ok bool) {
	for len(a.waiting) > 0 && !a.waiting[0].id.After(a.upTo) {
		heap.Pop(&a.waiting).(*waiter).done <- ok
	}
}

// wait waits until the follower, if there is one, has applied all up to id. It
// returns false if ctx ends before, or if Redis has lost the entry.
func (a *applied) wait(ctx context.Context, id broker.ID) bool {
	a.mu.Lock()
	if !a.following || !id.After(a.upTo) {
		a.mu.Unlock()
		return true
	}
	w := &waiter{id: id, done: make(chan bool, 1)}
	heap.Push(&a.waiting, w)
	a.mu.Unlock()
	select {
	case ok := <-w.done:
		return ok
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case ok := <-w.done:
		return ok
	default:
		heap.Remove(&a.waiting, w.index)
		return false
	}
}

// byID is a heap of those who wait, the lowest id first.
type byID []*waiter

func (h byID) Len() int           { return len(h) }
func (h byID) Less(i, j int) bool { return h[j].id.After(h[i].id) }
func (h byID) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *byID) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *byID) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return w
}
