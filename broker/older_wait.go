package broker

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
)

// waitHeap are those that wait for what is older than the floor, the first one that will
// have it at its beginning.
type waitHeap []*olderWait

// olderWait is one that needs all above an id.
type olderWait struct {
	above ID
	at    int           // index in the heap; -1 when it is not there any more
	done  chan struct{} // closed when it need not wait any more
}

// Len implements heap.Interface, as the methods that follow do.
func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].above.After(h[j].above) }
func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *waitHeap) Push(x any) {
	w := x.(*olderWait)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.at = -1
	return w
}

// release ends the wait of those that need nothing up to floor.
func (h *waitHeap) release(floor ID) {
	for len(*h) > 0 && !floor.After((*h)[0].above) {
		close(heap.Pop(h).(*olderWait).done)
	}
}

// releaseAll ends all waits: what is older will not come.
func (h *waitHeap) releaseAll() {
	for len(*h) > 0 {
		close(heap.Pop(h).(*olderWait).done)
	}
}

// errOlder says what one waits for that needs more than is here yet.
var errOlder = errors.New("the events that it is to begin with are still being read")

// needs is the id above which all must be here for a reader to begin. Broker.mu is held.
func (b *Broker) needs(start Start) ID {
	if _, position := ParseID(start.LastEventID); start.LastEventID != "" && !position {
		return ID{} // the id of a publisher may be that of any event
	}
	switch r := b.lookUp(start, nil); r.kind {
	case startNow:
		return b.older.floor
	case startAfter, startSince:
		return r.after
	}
	return ID{}
}

// mayBegin reports why a reader cannot begin yet. Broker.mu is held.
func (b *Broker) mayBegin(start Start) error {
	if floor := b.older.floor; !floor.IsZero() && floor.After(b.needs(start)) {
		return fmt.Errorf("%w: %w", ErrLoading, errOlder)
	}
	return nil
}

// awaitOlder waits until a reader can begin.
func (b *Broker) awaitOlder(ctx context.Context, start Start) error {
	for {
		w, err := b.waitOlder(start)
		if w == nil || err != nil {
			return err
		}
		select {
		case <-w.done:
			continue
		case <-ctx.Done():
		}
		b.mu.Lock()
		if w.at >= 0 {
			heap.Remove(&b.older.waiting, w.at)
		}
		b.mu.Unlock()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", ErrLoading, errOlder)
		}
		return ctx.Err()
	}
}

// waitOlder enters one that waits; nil if it need not.
func (b *Broker) waitOlder(start Start) (*olderWait, error) {
	if err := b.Loaded(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	err := b.mayBegin(start)
	if err == nil || len(b.older.waiting) >= b.cfg.MaxSubscriptions {
		return nil, err
	}
	w := &olderWait{above: b.needs(start), done: make(chan struct{})}
	heap.Push(&b.older.waiting, w)
	return w, nil
}
