package redisadapter

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// beatTimeout bounds a beat, and a Sync.
const beatTimeout = 2 * time.Second

// maxDrift is how much the time between two beats may differ by the server's
// clock and by this one. Above it the clock has jumped, or the server is another.
const maxDrift = time.Second

//go:embed beat.lua
var beatSource string

var beatScript = redis.NewScript(beatSource)

// membership is what a node knows about the others.
type membership struct {
	mu    sync.Mutex
	names []string
	heard time.Time // when the last successful beat was sent
	since time.Time // when the first one since the last failure was; zero after a failure
	clock time.Time // of the server, at heard
}

// beat is the answer of the primary to a beat.
type beat struct {
	of      lineage
	last    entry.Point
	refused string // why it takes no writes, "" if it does
	clock   time.Time
	was     bool  // the lease of this node had not ended
	readers int64 // for how many channels Redis has readers of this node
	names   []string
}

// beats renews the lease of this node until ctx ends, and watches over the tail:
// a server that is no longer the primary still answers those who read from it.
func (l *Log) beats(ctx context.Context) {
	tick := time.NewTicker(l.intervals.beat)
	defer tick.Stop()
	var watch watch
	for {
		now, sent := l.standing.progress(), time.Now()
		mine := l.readers.try()
		b, err := l.beat(ctx)
		if err == nil {
			l.figures.saw(b.last, l.standing.progress().at)
		}
		if err == nil && b.refused != "" {
			err = errors.New(b.refused)
			if !strings.Contains(b.refused, "READONLY") {
				// It is still the primary, but takes no writes at the moment.
				watch.failed = 0
				l.membership.broken()
				err = nil
			}
		} else if err == nil {
			l.membership.hear(b, sent)
			if mine {
				l.readers.compare(ctx, l, b.readers)
			}
		}
		if mine {
			l.readers.done()
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.membership.broken()
			l.failed()
		}
		if doubt := watch.judge(b, err, now); doubt != nil {
			l.standing.interrupt(doubt)
		}
		pause := tick.C
		if err != nil {
			pause = time.After(l.intervals.beat / 8)
		}
		select {
		case <-pause:
		case <-ctx.Done():
			return
		}
	}
}

// beat renews the lease of this node.
func (l *Log) beat(ctx context.Context) (*beat, error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	primary, release, err := l.primary(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	reply, err := beatScript.Run(ctx, primary, []string{l.keys.meta, l.keys.nodes, l.keys.node + l.node, l.keys.state, l.keys.value},
		l.node, l.intervals.lease.Milliseconds()).Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) != 8 {
		return nil, errAnswer
	}
	b := &beat{was: reply[5] == int64(1)}
	b.readers, _ = reply[6].(int64)
	b.of.log, _ = reply[0].(string)
	last, _ := reply[1].(string)
	b.last, _ = entry.ParsePoint(last)
	b.of.valueless, _ = reply[2].(string)
	b.refused, _ = reply[3].(string)
	clock, _ := reply[4].(string)
	ms, err := strconv.ParseInt(clock, 10, 64)
	if err != nil {
		return nil, errAnswer
	}
	b.clock = time.UnixMilli(ms)
	names, _ := reply[7].([]any)
	for _, name := range names {
		if name, ok := name.(string); ok {
			b.names = append(b.names, name)
		}
	}
	slices.Sort(b.names)
	return b, nil
}

// leaveTime is how long it may take to tell the other nodes that this one leaves.
const leaveTime = 500 * time.Millisecond

// leave ends the lease of this node, so that the others need not wait for its
// end.
func (l *Log) leave() {
	l.membership.broken()
	// The context of the caller has ended, and that of the log may have.
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	primary, release, err := l.primary(ctx)
	if err != nil {
		return
	}
	defer release()
	_, _ = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRem(ctx, l.keys.nodes, l.node)
		p.Unlink(ctx, l.keys.node+l.node)
		return nil
	})
}

// hear takes in the answer to a beat that was sent at that time.
func (c *membership) hear(b *beat, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	drift := b.clock.Sub(c.clock) - sent.Sub(c.heard)
	// After a failure the leases of nodes that live may have ended, and likewise
	// where the clock of the server has jumped.
	if c.since.IsZero() || !b.was || drift.Abs() > maxDrift {
		c.since = sent
	}
	c.names, c.heard, c.clock = b.names, sent, b.clock
}

// broken notes that a beat has failed.
func (c *membership) broken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Time{}
}

// all returns the names of the nodes, nil if they are unknown. They are known for
// sure when beats have succeeded for as long as a lease, so that every node that
// lives has renewed its own, and the last one is recent.
func (c *membership) all(p *intervals) (names []string, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() || time.Since(c.heard) > p.fresh {
		return nil, false
	}
	return c.names, c.heard.Sub(c.since) >= p.lease
}

// Members implements broker.Cluster.
func (l *Log) Members() ([]string, bool) {
	names, sure := l.membership.all(&l.intervals)
	if !sure {
		return nil, false
	}
	return slices.Clone(names), true
}
