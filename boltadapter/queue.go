package boltadapter

import (
	"context"
	"fmt"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// Bounds of what waits to be stored, and of one commit. The operations of one Append are
// never split, even where they exceed them.
const (
	maxQueued      = 1 << 16
	maxQueuedBytes = 64 << 20
	maxCommit      = 4096
	maxCommitBytes = 4 << 20
)

// pending is an Append that waits.
type pending struct {
	ops      []broker.Op
	prepared broker.Prepared
	results  []broker.Result
	bytes    int
	queued   bool // not yet taken, guarded by queue.mu
	done     chan error
}

// queue holds what waits to be stored, in order.
type queue struct {
	kick chan struct{} // receives when something was added

	mu      sync.Mutex
	waiting []*pending
	spare   []*pending // memory for the next waiting
	ops     int
	bytes   int
	down    error // why nothing is taken in any more
}

func (q *queue) init() { q.kick = make(chan struct{}, 1) }

func (q *queue) add(p *pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.down != nil:
		return q.down
	case q.ops > 0 && (q.ops+len(p.ops) > maxQueued || q.bytes+p.bytes > maxQueuedBytes):
		return fmt.Errorf("%w: the disk is slower than the publishers: %d operations wait", broker.ErrUnavailable, q.ops)
	}
	p.queued = true
	q.waiting = append(q.waiting, p)
	q.count(p, 1)
	q.wake()
	return nil
}

func (q *queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

func (q *queue) count(p *pending, sign int) {
	q.ops += sign * len(p.ops)
	q.bytes += sign * p.bytes
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

// take moves what the next commit has to batch.
func (q *queue) take(batch []*pending) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops, bytes, n := 0, 0, 0
	for _, p := range q.waiting {
		if p.queued {
			ops, bytes = ops+len(p.ops), bytes+p.bytes
			if len(batch) > 0 && (ops > maxCommit || bytes > maxCommitBytes) {
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
	if rest > 0 {
		q.wake()
	}
	return batch
}

// fail fails all that waits, and all that is added. Later calls change nothing.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil && err != broker.ErrClosed {
		return
	}
	q.down = err
	for _, p := range q.waiting {
		if p.queued {
			p.queued = false
			p.done <- err
		}
	}
	q.waiting, q.ops, q.bytes = nil, 0, 0
}

func (q *queue) close() { q.fail(broker.ErrClosed) }

// Append implements broker.Log.
func (l *Log) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch l.phase.Load() {
	case phaseNew:
		return nil, broker.ErrLoading
	case phaseClosed:
		return nil, broker.ErrClosed
	}
	if len(ops) == 0 {
		return nil, nil
	}
	p := &pending{ops: ops, prepared: broker.Prepare(ops), results: make([]broker.Result, len(ops)), done: make(chan error, 1)}
	for i := range ops {
		p.bytes += sizeOf(&ops[i])
	}
	if p.bytes > maxQueuedBytes {
		return nil, fmt.Errorf("an Append may have at most %d bytes, not %d", maxQueuedBytes, p.bytes)
	}
	if err := l.queue.add(p); err != nil {
		return nil, err
	}
	select {
	case err := <-p.done:
		return p.answer(err)
	case <-ctx.Done():
	}
	if l.queue.remove(p) {
		return nil, ctx.Err()
	}
	select {
	case err := <-p.done:
		return p.answer(err)
	default:
		return nil, fmt.Errorf("%w: the context ended before the disk answered: %s", broker.ErrUncertain, ctx.Err().Error())
	}
}

func (p *pending) answer(err error) ([]broker.Result, error) {
	if err != nil {
		return nil, err
	}
	return p.results, nil
}

// sizeOf is about how large the records of an operation are.
func sizeOf(op *broker.Op) int {
	n := 128 + len(op.Channel) + len(op.Event.Type) + len(op.Event.ID) + len(op.Event.Data) + len(op.Except) + len(op.Key.Identity) + len(op.Key.Key)
	if op.State != nil {
		n += len(op.State.Session) + len(op.State.Value)
		if op.State.Answer {
			n += len(op.State.Value)
		}
	}
	return n
}
