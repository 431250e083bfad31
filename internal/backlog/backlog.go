// Package backlog is what waits for a writer that stores many appends at once: while one
// batch is being stored, those of the next one gather.
package backlog

import "sync"

// Item is an append that waits. A type gets it by embedding a Ticket, and has to say what
// its end is.
type Item interface {
	ticket() *Ticket

	// End tells who waits that nothing becomes of the append. It must not block.
	End(err error)
}

// Ticket is the part of an Item that a Queue works with.
type Ticket struct {
	Ops, Bytes int // how large the append is

	queued bool // it is not taken yet; Queue.mu guards it
}

func (t *Ticket) ticket() *Ticket { return t }

// Bounds bound what waits, and a batch. One append is never split: it may exceed them
// where it is alone.
type Bounds struct{ Ops, Bytes, BatchOps, BatchBytes int }

// Queue holds what waits, in order. Its methods are safe for concurrent use.
type Queue[T Item] struct {
	// C receives when something was added, or is left after Take.
	C <-chan struct{}

	kick   chan struct{}
	bounds Bounds
	slow   func(ops int) error
	closed error

	mu      sync.Mutex // guards what follows
	waiting []T
	ops     int
	bytes   int
	ended   bool
	down    error // not nil while nothing is taken in, when nothing waits
}

// New returns an empty Queue. slow is the error of an append for which there is no room
// beside the number of operations that wait, closed that of one after Close.
func New[T Item](b Bounds, slow func(ops int) error, closed error) *Queue[T] {
	q := &Queue[T]{kick: make(chan struct{}, 1), bounds: b, slow: slow, closed: closed}
	q.C = q.kick
	return q
}

// Add adds an append, or says why it cannot wait.
func (q *Queue[T]) Add(item T) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := item.ticket()
	switch {
	case q.ended:
		return q.closed
	case q.down != nil:
		return q.down
	case q.ops > 0 && (q.ops+t.Ops > q.bounds.Ops || q.bytes+t.Bytes > q.bounds.Bytes):
		return q.slow(q.ops)
	}
	t.queued = true
	q.waiting = append(q.waiting, item)
	q.count(t, 1)
	q.wake()
	return nil
}

// Remove removes an append. It is false if it was taken already.
func (q *Queue[T]) Remove(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := item.ticket()
	if !t.queued {
		return false
	}
	t.queued = false // Take skips it
	q.count(t, -1)
	return true
}

// Take moves the next batch to the end of batch, which has room for it or grows.
func (q *Queue[T]) Take(batch []T) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops, bytes, n := 0, 0, 0
	for _, item := range q.waiting {
		if t := item.ticket(); t.queued {
			ops, bytes = ops+t.Ops, bytes+t.Bytes
			if len(batch) > 0 && (ops > q.bounds.BatchOps || bytes > q.bounds.BatchBytes) {
				break
			}
			t.queued = false
			q.count(t, -1)
			batch = append(batch, item)
		}
		n++
	}
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	if rest > 0 {
		q.wake()
	}
	return batch
}

// GiveBack puts a batch that was not stored in front of what waits.
func (q *Queue[T]) GiveBack(batch []T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		for _, item := range batch {
			item.End(q.closed)
		}
		return
	}
	for _, item := range batch {
		t := item.ticket()
		t.queued = true
		q.count(t, 1)
	}
	q.waiting = append(batch, q.waiting...)
	q.wake()
}

// Fail fails all that waits, and all that is added until Up. It is false if it was called
// since then already.
func (q *Queue[T]) Fail(err error) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down == nil
	q.down = err
	q.end(err)
	return first
}

// Up has the queue take in again. It is false if it did so before.
func (q *Queue[T]) Up() (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down != nil
	q.down = nil
	return first
}

// Close fails all that waits, and all that is added.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.end(q.closed)
}

// Ops is how many operations wait.
func (q *Queue[T]) Ops() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ops
}

// end ends all that waits. Queue.mu is held.
func (q *Queue[T]) end(err error) {
	for _, item := range q.waiting {
		if t := item.ticket(); t.queued {
			t.queued = false
			item.End(err)
		}
	}
	q.waiting, q.ops, q.bytes = nil, 0, 0
}

func (q *Queue[T]) count(t *Ticket, sign int) {
	q.ops += sign * t.Ops
	q.bytes += sign * t.Bytes
}

func (q *Queue[T]) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}
