package redisadapter

import (
	"fmt"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// Bounds of what waits to be stored. Over them Redis is slower than what is
// published, and waiting longer does not help.
const (
	maxQueued      = 1 << 16
	maxQueuedBytes = 64 << 20
)

// Bounds of one batch, which keep the script short. Those of one Append go
// together, also where they are more.
const (
	maxBatch      = 512
	maxBatchBytes = 1 << 20
)

// queue has what waits to be stored, in order.
type queue struct {
	kick chan struct{} // there is something new

	mu      sync.Mutex
	waiting []*pending
	ops     int
	bytes   int
	closed  bool
	down    error // the log is out of reach: nothing waits
}

// pending is an Append that waits.
type pending struct {
	ops    []wireOp
	bytes  int
	queued bool              // not on its way, guarded by queue.mu
	done   chan appendResult // gets one
}

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
		return fmt.Errorf("%w: Redis is slower than what is published: %d operations wait", broker.ErrUnavailable, q.ops)
	}
	p.queued = true
	q.waiting = append(q.waiting, p)
	q.count(p, 1)
	q.wake()
	return nil
}

// remove takes p out, unless it is on its way.
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

// take is the next batch, nil if nothing waits.
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

// giveBack puts a batch in front of what waits: it was not stored.
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

// fail ends all that waits, and what comes until up. It is false where that is
// so already.
func (q *queue) fail(err error) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down == nil
	q.down = err
	q.end(err)
	return first
}

// up says that the log is within reach. It is false where that was so already.
func (q *queue) up() (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = q.down != nil
	q.down = nil
	return first
}

// close ends all that waits, and what comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.end(broker.ErrClosed)
}

// end ends all that waits. q.mu is held.
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
