package redisadapter

import (
	"fmt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/backlog"
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

// pending is an Append that waits.
type pending struct {
	backlog.Ticket
	ops    []entry.Op
	staged bool              // the operations have stages
	done   chan appendResult // receives one value
}

// End implements backlog.Item.
func (p *pending) End(err error) { p.done <- appendResult{err: err} }

// appendResult is the result of one Append.
type appendResult struct {
	results []broker.Result
	err     error
}

func newQueue() *backlog.Queue[*pending] {
	bounds := backlog.Bounds{Ops: maxQueued, Bytes: maxQueuedBytes, BatchOps: maxBatch, BatchBytes: maxBatchBytes}
	return backlog.New[*pending](bounds, func(ops int) error {
		return fmt.Errorf("%w: Redis is slower than the publishers: %d operations wait", broker.ErrUnavailable, ops)
	}, broker.ErrClosed)
}
