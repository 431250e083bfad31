package redisadapter

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

const (
	// patience is how long a batch that was not executed is tried again, before
	// the log counts as out of reach.
	patience = 2 * time.Second
	// attemptTimeout bounds one attempt, dialing included. An attempt after one
	// that failed is bounded by patience.
	attemptTimeout = dialTimeout + readTimeout
	// The pause before the next attempt doubles each time, with jitter.
	minPause = 20 * time.Millisecond
	maxPause = time.Second
	// roomPause is the time between two attempts to make room in a Redis that has
	// no memory left.
	roomPause = time.Second
)

// committer stores what is appended. It is for the goroutine of commit alone.
type committer struct {
	log     *Log
	streams []string      // those that the log has, as far as is known
	since   time.Time     // since when Redis is out of reach; zero if it is not
	pause   time.Duration // before the next attempt; 0 if it is not

	roomMade time.Time // when makeRoom did something last

	refusals faultLog // Redis does not take what is published
	damages  faultLog // the script fails after it has begun to write
}

// refusalQuiet is how long Redis must not have refused anything before that is
// over.
const refusalQuiet = 5 * time.Second

// commit stores what is appended, one batch after the other, until the log is
// closed.
func (l *Log) commit() {
	c := committer{
		log:      l,
		refusals: faultLog{quiet: refusalQuiet},
		damages:  faultLog{quiet: refusalQuiet},
	}
	for l.ctx.Err() == nil {
		if c.pause > 0 {
			select {
			case <-time.After(c.pause/2 + rand.N(c.pause)): //nolint:gosec // jitter
			case <-l.ctx.Done():
				return
			}
		}
		if batch := l.queue.Take(nil); len(batch) > 0 || c.pause > 0 {
			c.store(batch)
			continue
		}
		select {
		case <-l.queue.C:
		case <-l.ctx.Done():
		}
	}
}

// store stores a batch and answers those who wait for it. An empty batch only
// checks whether Redis is within reach.
func (c *committer) store(batch []*pending) {
	l := c.log
	q := c.request(batch)
	a, err := c.try(&q)
	if noMemory(err) && c.makeRoom() {
		a, err = c.try(&q)
	}
	if noMemory(err) {
		if batch = c.refuseMore(batch, err); len(batch) == 0 {
			c.reachable()
			return
		}
		q = c.request(batch)
		a, err = c.try(&q)
	}
	if err == nil {
		c.reachable()
		if settle(batch, a, &q) && !q.frees() {
			c.stored()
		}
		return
	}
	outcome := outcomeOf(err, q.nonce.written)
	if outcome == refused && q.nonce.written {
		c.reachable()
		c.refuse(batch, err)
		return
	}
	c.unreachable()
	switch {
	case outcome == unknown:
		c.uncertain(batch, err)
	case l.ctx.Err() != nil:
		answer(batch, broker.ErrClosed)
	case outcome == notDone && time.Since(c.since) < patience:
		l.queue.GiveBack(batch)
	default:
		c.giveUp(batch, err)
	}
}

// request is what stores a batch.
func (c *committer) request(batch []*pending) request {
	q := request{streams: []string{entry.Live}, maxKeys: c.log.maxKeys}
	if cfg := c.log.cfg(); len(batch) > 0 {
		q.replicas, q.timeout = cfg.Wait, cfg.WaitTimeout
	}
	staged := false // the Append before
	for _, p := range batch {
		first := len(q.ops)
		q.ops = append(q.ops, p.ops...)
		if staged || p.staged { // what was refused before is nothing to it
			q.ops[first].Mark = entry.NextAppend
		}
		staged = p.staged
	}
	return q
}

// makeRoom removes from a Redis that has no memory left what is past its time, and
// reports whether that was anything. It does so at most once in roomPause.
func (c *committer) makeRoom() bool {
	if time.Since(c.roomMade) < roomPause {
		return false
	}
	c.roomMade = time.Now()
	ctx, cancel := context.WithTimeout(c.log.ctx, patience)
	defer cancel()
	primary, release, err := c.log.primary(ctx)
	if err != nil {
		return false
	}
	defer release()
	removed, _ := c.log.trimAll(ctx, primary) // the next trim logs why it failed
	return removed > 0
}

// refuseMore fails what needs memory of a batch, and returns the rest, which frees
// some.
func (c *committer) refuseMore(batch []*pending, err error) (rest []*pending) {
	var refused []*pending
	for _, p := range batch {
		if (&request{ops: p.ops}).frees() {
			rest = append(rest, p)
		} else {
			refused = append(refused, p)
		}
	}
	c.refuse(refused, err)
	return rest
}

// stored notes that a batch was stored.
func (c *committer) stored() {
	c.log.room.noted(nil)
	if after, over := c.refusals.ends(); over {
		c.log.logger.Info("Redis takes what is published again", slog.Duration("after", after))
	}
	if after, over := c.damages.ends(); over {
		c.log.logger.Info("the log in Redis is written whole again", slog.Duration("after", after))
	}
}

// try sends a request to the primary.
func (c *committer) try(q *request) (a answers, err error) {
	timeout := attemptTimeout
	if !c.since.IsZero() {
		timeout = patience
	}
	ctx, cancel := context.WithTimeout(c.log.ctx, timeout)
	defer cancel()
	primary, release, err := c.log.primary(ctx)
	if err != nil {
		return answers{}, err
	}
	defer release()
	for {
		if q.purges() {
			for _, name := range c.streams {
				q.stream(name)
			}
		}
		a, err = q.run(ctx, primary, &c.log.keys)
		if err != nil || len(a.streams) == 0 {
			return a, err
		}
		c.streams = a.streams // nothing was stored, because one of them was missing
	}
}

// reachable notes that Redis is within reach.
func (c *committer) reachable() {
	if c.log.queue.Up() {
		c.log.logger.Info("Redis is within reach again", slog.Duration("after", time.Since(c.since)))
	}
	c.since, c.pause = time.Time{}, 0
}

// unreachable notes that the primary is out of reach, for this attempt.
func (c *committer) unreachable() {
	if c.since.IsZero() {
		c.since = time.Now()
	}
	c.pause = min(max(2*c.pause, minPause), maxPause)
	c.log.failed()
}

// giveUp fails a batch and all that waits: Redis is out of reach.
func (c *committer) giveUp(batch []*pending, err error) {
	reason := explain(err)
	err = unavailable(err)
	answer(batch, err)
	if c.log.queue.Fail(err) {
		c.log.logger.Warn("Redis is out of reach: nothing can be published", slog.String("reason", reason))
	}
}

// uncertain fails a batch that may have been stored.
func (c *committer) uncertain(batch []*pending, err error) {
	reason := explain(err)
	answer(batch, fmt.Errorf("%w: there was no answer from Redis: %s", broker.ErrUncertain, reason))
	if code, _ := replyOf(err); code == partial {
		if c.damages.begins(reason) {
			c.log.logger.Error("the log in Redis may be damaged", slog.String("reason", reason))
		}
	}
}

// refuse fails a batch that Redis has refused.
func (c *committer) refuse(batch []*pending, err error) {
	c.log.room.noted(err)
	answer(batch, unavailable(err))
	if reason := explain(err); c.refusals.begins(reason) {
		c.log.logger.Warn("Redis does not take what is published", slog.String("reason", reason))
	}
}

// answer fails all of a batch.
func answer(batch []*pending, err error) {
	for _, p := range batch {
		p.End(err)
	}
}

// settle gives those who wait for a batch their results, and reports whether
// anything was stored.
func settle(batch []*pending, a answers, q *request) (stored bool) {
	var short error
	if a.waited != nil {
		short = fmt.Errorf("%w: it was stored, but it is not known whether replicas have it: %s", broker.ErrUncertain, explain(a.waited))
	} else if a.replicas < q.replicas {
		short = fmt.Errorf("%w: it was stored, but %d of %d replicas had it within %s",
			broker.ErrUncertain, a.replicas, q.replicas, q.timeout)
	}
	results := a.results
	for _, p := range batch {
		o := appendResult{results: results[:len(p.ops):len(p.ops)]}
		results = results[len(p.ops):]
		if slices.ContainsFunc(o.results, func(r broker.Result) bool { return r.Err == nil }) {
			stored = true
			if short != nil {
				o = appendResult{err: short}
			}
		}
		p.done <- o
	}
	return stored
}
