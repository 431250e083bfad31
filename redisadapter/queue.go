package redisadapter

import (
	"fmt"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// Bounds of what waits to be stored. Above them Redis is slower than the
// publishers, and a longer queue would not help.
const (
	maxQueued      = 1 << 16
	maxQueuedBytes = 64 << 20
)

// Bounds of a batch, which keep the script short. The operations of one Append
// are never split, even where they exceed them.
const (
	maxBatch      = 512
	maxBatchBytes = 1 << 20
)

// queue holds what waits to be stored, in order.
type queue struct {
	kick chan struct{} // receives when something was added

	mu      sync.Mutex
	waiting []*pending
	ops     int
	bytes   int
	closed  bool
	down    error // not nil while the log is out of reach, when nothing waits
}

// pending is an Append that waits.
type pending struct {
	ops    []entry.Op
	bytes  int
	queued bool              // not yet taken, guarded by queue.mu
	done   chan appendResult // receives one value
}

// appendResult is the result of one Append.
type appendResult struct {
	results []broker.Result
	err     error
}

func (q *queue) init() { q.kick = make(chan struct{}, 1) }

func (q *queue) add(p *pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return broker.ErrClosed
	case q.down != nil:
		return q.down
	case q.ops > 0 && (q.ops+len(p.ops) > maxQueued || q.bytes+p.bytes > maxQueuedBytes):
		return fmt.Errorf("%w: Redis is slower than the publishers: %d operations wait", broker.ErrUnavailable, q.ops)
	}
	p.queued = true
	q.waiting = append(q.waiting, p)
	q.count(p, 1)
	q.wake()
	return nil
}

// remove removes p. It returns false if p was taken already.
func (q *queue) remove(p *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !p.queued {
		return false
	}
	p.queued = false // take skips it
	q.count(p, -1)
	return true
}

// take removes and returns the next batch, nil if nothing waits.
func (q *queue) take() (batch []*pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops, bytes, n := 0, 0, 0
	for _, p := range q.waiting {
		if p.queued {
			ops, bytes = ops+len(p.ops), bytes+p.bytes
			if len(batch) > 0 && (ops > maxBatch || bytes > maxBatchBytes) {
				break
			}
			p.queued = false
			q.count(p, -1)
			batch = append(batch, p)
		}
		n++
	}
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	return batch
}

// giveBack puts a batch that was not stored in front of what waits.
func (q *queue) giveBack(batch []*pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range batch {
		if q.closed {
			p.done <- appendResult{err: broker.ErrClosed}
			continue
		}
		p.queued = true
		q.count(p, 1)
	}
	if !q.closed {
		q.waiting = append(batch, q.waiting...)
		q.wake()
	}
}

// fail fails all that waits, and all that is added until up. It returns false if
// it was called since up already.
func (q *queue) fail(err error) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down == nil
	q.down = err
	q.end(err)
	return first
}

// up notes that the log is within reach. It returns false if it was before.
func (q *queue) up() (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down != nil
	q.down = nil
	return first
}

// close fails all that waits, and all that is added.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.end(broker.ErrClosed)
}

// end fails all that waits. q.mu is held.
func (q *queue) end(err error) {
	for _, p := range q.waiting {
		if p.queued {
			p.queued = false
			p.done <- appendResult{err: err}
		}
	}
	q.waiting, q.ops, q.bytes = nil, 0, 0
}

func (q *queue) count(p *pending, sign int) {
	q.ops += sign * len(p.ops)
	q.bytes += sign * p.bytes
}

func (q *queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}
