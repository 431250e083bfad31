package redisadapter

import (
	"context"
	"fmt"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// question asks the primary what its newest entry is, for all who want to know
// at that time.
type question struct {
	done chan struct{} // closed when it is answered, or cannot be

	before point // what was applied when it was asked
	of     lineage
	last   point
	err    error
}

// questions are asked one after the other. Who comes while one is under way
// shares the next one: what is on its way may have been answered already.
type questions struct {
	mu  sync.Mutex
	now *question
	one *question // the next, nil if nobody wants it
}

// Sync implements broker.Log.
func (l *Log) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q, err := l.ask()
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
	if of := l.standing.progress().of; of != (lineage{}) && of != q.of || q.before.id.After(q.last.id) {
		l.standing.interrupt(errBehind)
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, errBehind)
	}
	if !l.applied.wait(ctx, q.last.id) {
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

// ask has the next question asked.
func (l *Log) ask() (*question, error) {
	qs := &l.questions
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if qs.one != nil {
		return qs.one, nil
	}
	q := &question{done: make(chan struct{})}
	if qs.now != nil {
		qs.one = q
		return q, nil
	}
	if !l.run(l.asking) {
		return nil, broker.ErrClosed
	}
	qs.now = q
	return q, nil
}

// asking asks until nobody wants to know any more.
func (l *Log) asking() {
	qs := &l.questions
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for qs.now != nil {
		q := qs.now
		qs.mu.Unlock()
		l.answer(q)
		close(q.done)
		qs.mu.Lock()
		qs.now, qs.one = qs.one, nil
	}
}

func (l *Log) answer(q *question) {
	ctx, cancel := context.WithTimeout(l.ctx, beatPatience)
	defer cancel()
	q.before = l.standing.progress().at
	values, err := l.newest(ctx)
	if err != nil { // a connection may have been closed, while nobody used it
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
	if q.last, ok = parsePoint(last); !ok {
		q.err = errNoLog
	}
}

// newest asks the primary for its log and its newest entry.
func (l *Log) newest(ctx context.Context) ([]any, error) {
	primary, release, err := l.primary(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return primary.HMGet(ctx, l.keys.meta, "log", "last", "valueless").Result()
}

// run runs f as a task of the log. It is false if the log is closed.
func (l *Log) run(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tasks.Go(f)
	}
	return !l.closed
}
