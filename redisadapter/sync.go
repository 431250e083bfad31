package redisadapter

import (
	"context"
	"fmt"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// syncRequest asks the primary for its newest entry, on behalf of every Sync
// that waits for it.
type syncRequest struct {
	done chan struct{} // closed when the fields below are set

	before entry.Point // what this node had applied when the primary was asked
	of     lineage
	last   entry.Point
	err    error
}

// syncs runs one request at a time. A Sync that comes while one is running
// cannot use that one, which may have been answered already: it shares the next.
type syncs struct {
	mu      sync.Mutex
	running *syncRequest
	next    *syncRequest // nil if nobody waits for it
}

// Sync implements broker.Log.
func (l *Log) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q, err := l.joinSync()
	if err != nil {
		return err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.isClosed() {
		return broker.ErrClosed
	}
	if q.err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, q.err)
	}
	if of := l.standing.progress().of; of != (lineage{}) && of != q.of || q.before.ID.After(q.last.ID) {
		l.standing.interrupt(errBehind)
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, errBehind)
	}
	if !l.applied.wait(ctx, q.last.ID) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, errBehind)
	}
	if l.isClosed() {
		return broker.ErrClosed
	}
	return nil
}

// joinSync returns the next request to be sent, and sees to it that it is.
func (l *Log) joinSync() (*syncRequest, error) {
	s := &l.syncs
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		return s.next, nil
	}
	q := &syncRequest{done: make(chan struct{})}
	if s.running != nil {
		s.next = q
		return q, nil
	}
	if !l.run(l.runSyncs) {
		return nil, broker.ErrClosed
	}
	s.running = q
	return q, nil
}

// runSyncs runs requests until none is left.
func (l *Log) runSyncs() {
	s := &l.syncs
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running != nil {
		q := s.running
		s.mu.Unlock()
		l.askNewest(q)
		close(q.done)
		s.mu.Lock()
		s.running, s.next = s.next, nil
	}
}

// askNewest sends q to the primary and sets what it answers.
func (l *Log) askNewest(q *syncRequest) {
	ctx, cancel := context.WithTimeout(l.ctx, beatTimeout)
	defer cancel()
	q.before = l.standing.progress().at
	values, err := l.newest(ctx)
	if err != nil { // the server may have closed an idle connection: try once more
		l.failed()
		values, err = l.newest(ctx)
	}
	if err != nil {
		q.err = err
		return
	}
	q.of.log, _ = values[0].(string)
	q.of.valueless, _ = values[2].(string)
	last, _ := values[1].(string)
	var ok bool
	if q.last, ok = entry.ParsePoint(last); !ok {
		q.err = errNoLog
	}
}

// newest reads the identity of the log and its newest entry from the primary.
func (l *Log) newest(ctx context.Context) ([]any, error) {
	primary, release, err := l.primary(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return primary.HMGet(ctx, l.keys.meta, "log", "last", "valueless").Result()
}

// run starts f as a task of the log. It returns false if the log is closed.
func (l *Log) run(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tasks.Go(f)
	}
	return !l.closed
}
