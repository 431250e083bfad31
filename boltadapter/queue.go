package boltadapter

import (
	"context"
	"fmt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/backlog"
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
	backlog.Ticket
	ops      []broker.Op
	prepared broker.Prepared
	results  []broker.Result
	done     chan error // receives one value
}

// End implements backlog.Item.
func (p *pending) End(err error) { p.done <- err }

func newQueue() *backlog.Queue[*pending] {
	bounds := backlog.Bounds{Ops: maxQueued, Bytes: maxQueuedBytes, BatchOps: maxCommit, BatchBytes: maxCommitBytes}
	return backlog.New[*pending](bounds, func(ops int) error {
		return fmt.Errorf("%w: the disk is slower than the publishers: %d operations wait", broker.ErrUnavailable, ops)
	}, broker.ErrClosed)
}

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
	p.Ops = len(ops)
	for i := range ops {
		p.Bytes += sizeOf(&ops[i])
	}
	if p.Bytes > maxQueuedBytes {
		return nil, fmt.Errorf("an Append may have at most %d bytes, not %d", maxQueuedBytes, p.Bytes)
	}
	if err := l.queue.Add(p); err != nil {
		return nil, err
	}
	select {
	case err := <-p.done:
		return p.answer(err)
	case <-ctx.Done():
	}
	if l.queue.Remove(p) {
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
