package redisadapter

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

//go:embed report.lua
var reportSource string

var reportScript = redis.NewScript(reportSource)

// readers is all that this node has reported. Where Redis may have lost some of
// it, it is sent again.
type readers struct {
	turn chan struct{} // a semaphore of one: who sends has taken its value

	mu    sync.Mutex
	table map[string]int
	whole bool // Redis may not have all of it: the next send sends everything
}

func newReaders() readers {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return readers{turn: turn, table: map[string]int{}}
}

// readersStep is how many channels one command reports or asks for.
const readersStep = 1000

// Report implements broker.Cluster. A report that fails is remembered and sent
// with the next beat that succeeds; it may be repeated nevertheless.
func (l *Log) Report(ctx context.Context, readers map[string]int) error {
	if l.isClosed() {
		return broker.ErrClosed
	}
	r := &l.readers
	r.mu.Lock()
	for name, n := range readers {
		if n == 0 {
			delete(r.table, name)
		} else {
			r.table[name] = n
		}
	}
	r.mu.Unlock()
	select {
	case <-r.turn:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.whole = true
		return ctx.Err()
	}
	defer r.done()
	if err := r.send(ctx, l, readers); err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	return nil
}

// try takes the turn, if nobody has it.
func (r *readers) try() bool {
	select {
	case <-r.turn:
		return true
	default:
		return false
	}
}

// done gives the turn back.
func (r *readers) done() { r.turn <- struct{}{} }

// compare sends everything again, if Redis does not have all of it. It has readers
// of so many channels. The caller has the turn.
func (r *readers) compare(ctx context.Context, l *Log, has int64) {
	r.mu.Lock()
	r.whole = r.whole || has != int64(len(r.table))
	whole := r.whole
	r.mu.Unlock()
	if whole {
		_ = r.send(ctx, l, nil) // after an error the next beat tries again
	}
}

// send sends what has changed or, where Redis may not have the rest, everything.
// The caller has the turn.
func (r *readers) send(ctx context.Context, l *Log, changed map[string]int) error {
	whole, set, gone := r.parts(changed)
	primary, release, err := l.primary(ctx)
	if err == nil {
		defer release()
		err = l.report(ctx, primary, whole, set, gone)
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.whole = true
	}
	return err
}

// report calls report.lua as often as needed.
func (l *Log) report(ctx context.Context, primary *redis.Client, whole bool, set, gone []any) error {
	for first := true; first || len(set)+len(gone) > 0; first = false {
		some, none := set[:min(len(set), 2*readersStep)], gone[:min(len(gone), readersStep)]
		set, gone = set[len(some):], gone[len(none):]
		anew := 0
		if whole && first {
			anew = 1
		}
		args := append([]any{l.intervals.lease.Milliseconds(), anew, len(some)}, some...)
		err := reportScript.Run(ctx, primary, []string{l.keys.node + l.node}, append(args, none...)...).Err()
		if err != nil && !errors.Is(err, redis.Nil) { // Nil is its answer
			return err
		}
	}
	return nil
}

// parts returns what to send: names with their current numbers, and names without
// readers. It is everything if whole, and else what has changed.
func (r *readers) parts(changed map[string]int) (whole bool, set, gone []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if whole, r.whole = r.whole, false; whole {
		changed = r.table
	}
	for name := range changed {
		if n := r.table[name]; n == 0 {
			gone = append(gone, name)
		} else {
			set = append(set, name, n)
		}
	}
	return whole, set, gone
}

// Readers implements broker.Cluster.
func (l *Log) Readers(ctx context.Context, names []string) ([]int, error) {
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	members, _ := l.membership.all(&l.intervals)
	if members == nil {
		return nil, fmt.Errorf("%w: the members are not known", broker.ErrUnavailable)
	}
	sums := make([]int, len(names))
	primary, release, err := l.primary(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	defer release()
	type part struct {
		from  int // in names
		reply *redis.SliceCmd
	}
	var parts []part
	_, err = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, node := range members {
			if node == l.node {
				continue
			}
			for from := 0; from < len(names); from += readersStep {
				to := min(from+readersStep, len(names))
				parts = append(parts, part{from, p.HMGet(ctx, l.keys.node+node, names[from:to]...)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	for _, part := range parts {
		for i, value := range part.reply.Val() {
			if text, ok := value.(string); ok {
				n, err := strconv.Atoi(text)
				if err != nil {
					return nil, fmt.Errorf("the number of readers in Redis is %q, not a number", text)
				}
				sums[part.from+i] += n
			}
		}
	}
	return sums, nil
}
