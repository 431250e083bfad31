package redisadapter

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

const (
	// patience is how long a batch is tried again that was not executed. After
	// it the log is out of reach.
	patience = 2 * time.Second
	// attemptTimeout bounds one try, with the dialing.
	attemptTimeout = 5 * time.Second
	// The pause before the next try, which doubles, and is jittered.
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// committer is what the one goroutine has that stores what is appended.
type committer struct {
	log     *Log
	streams []string      // that the log is known to have
	since   time.Time     // when Redis was out of reach first; zero: it is not
	pause   time.Duration // before the next try, where it is
}

// commit stores what is appended, one batch after the other, until Close.
func (l *Log) commit() {
	c := committer{log: l}
	for l.ctx.Err() == nil {
		if c.pause > 0 {
			select {
			case <-time.After(c.pause/2 + rand.N(c.pause)): //nolint:gosec // jitter
			case <-l.ctx.Done():
				return
			}
		}
		if batch := l.queue.take(); len(batch) > 0 || c.pause > 0 {
			c.store(batch)
			continue
		}
		select {
		case <-l.queue.kick:
		case <-l.ctx.Done():
		}
	}
}

// store stores a batch, and answers those who wait for it. An empty one only
// looks whether Redis is within reach.
func (c *committer) store(batch []*pending) {
	l := c.log
	cfg := l.cfg()
	q := request{streams: []string{live}, replicas: cfg.Wait, timeout: cfg.WaitTimeout}
	for _, p := range batch {
		q.ops = append(q.ops, p.ops...)
	}
	a, err := c.try(&q)
	if err == nil {
		c.found()
		settle(batch, a, &q)
		return
	}
	fate := fateOf(err, q.nonce.written)
	lost := fate != refused || !q.nonce.written
	if lost {
		c.lost()
	}
	switch {
	case fate == unknown:
		answer(batch, fmt.Errorf("%w: Redis did not say what became of it: %s", broker.ErrUncertain, explain(err)))
	case fate == notDone && time.Since(c.since) < patience:
		l.queue.giveBack(batch)
	case lost:
		c.giveUp(batch, err)
	default:
		answer(batch, unavailable(err))
	}
}

// try sends a request to the primary.
func (c *committer) try(q *request) (a answers, err error) {
	ctx, cancel := context.WithTimeout(c.log.ctx, attemptTimeout)
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
		c.streams = a.streams // nothing was done without one of them
	}
}

// found notes that Redis is within reach.
func (c *committer) found() {
	if c.log.queue.up() {
		c.log.logger.Info("Redis is within reach again", slog.Duration("after", time.Since(c.since)))
	}
	c.since, c.pause = time.Time{}, 0
}

// lost notes that Redis is out of reach, or that what answers is not the primary.
func (c *committer) lost() {
	if c.since.IsZero() {
		c.since = time.Now()
	}
	c.pause = min(max(2*c.pause, minPause), maxPause)
	c.log.failed()
}

// giveUp ends a batch, and what else waits: Redis is out of reach.
func (c *committer) giveUp(batch []*pending, err error) {
	reason := explain(err)
	err = unavailable(err)
	answer(batch, err)
	if c.log.queue.fail(err) && c.log.ctx.Err() == nil {
		c.log.logger.Warn("Redis is out of reach, and nothing can be published", slog.String("reason", reason))
	}
}

// answer ends a batch of which nothing is known, or nothing was stored.
func answer(batch []*pending, err error) {
	for _, p := range batch {
		p.done <- outcome{err: err}
	}
}

// settle tells those who wait for a batch what became of it.
func settle(batch []*pending, a answers, q *request) {
	results := a.results
	for _, p := range batch {
		o := outcome{results: results[:len(p.ops):len(p.ops)]}
		results = results[len(p.ops):]
		if a.replicas < q.replicas {
			for i := range o.results {
				if o.results[i].Err == nil {
					o = outcome{err: fmt.Errorf("%w: it was stored, but %d of %d replicas had it within %s",
						broker.ErrUncertain, a.replicas, q.replicas, q.timeout)}
					break
				}
			}
		}
		p.done <- o
	}
}
