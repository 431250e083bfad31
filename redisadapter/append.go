package redisadapter

import (
	"context"
	"fmt"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// appliedTimeout is how long Append waits for this node to apply what it stored.
const appliedTimeout = 5 * time.Second

// maxAppend bounds the operations of one Append: they are one script, during
// which Redis does nothing else.
const maxAppend = 4096

// Append implements broker.Log.
func (l *Log) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	if len(ops) == 0 {
		return nil, nil
	}
	if len(ops) > maxAppend {
		return nil, fmt.Errorf("an Append may have at most %d operations, not %d", maxAppend, len(ops))
	}
	p := &pending{ops: make([]entry.Op, len(ops)), done: make(chan appendResult, 1)}
	p.Ops = len(ops)
	for i := range ops {
		p.ops[i] = entry.NewOp(&ops[i])
		if i > 0 && ops[i].Stage > ops[i-1].Stage { //nolint:gosec // i-1 is not negative
			p.ops[i].Mark, p.staged = entry.NextStage, true
		}
		p.Bytes += p.ops[i].Bytes
	}
	if err := l.queue.Add(p); err != nil {
		return nil, err
	}
	var o appendResult
	select {
	case o = <-p.done:
	case <-ctx.Done():
		if l.queue.Remove(p) {
			return nil, ctx.Err()
		}
		select {
		case o = <-p.done:
		default:
			return nil, fmt.Errorf("%w: the context ended before Redis answered: %s", broker.ErrUncertain, ctx.Err().Error())
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	var last broker.ID
	for i := range o.results {
		if r := &o.results[i]; r.Err == nil && r.ID.After(last) {
			last = r.ID
		}
	}
	seen, cancel := context.WithTimeout(ctx, appliedTimeout)
	defer cancel()
	if !l.applied.wait(seen, last) {
		return nil, fmt.Errorf("%w: it was stored as %s, but this node has not applied it yet", broker.ErrUncertain, last)
	}
	return o.results, nil
}
