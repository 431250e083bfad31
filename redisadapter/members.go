package redisadapter

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

const (
	// beatEvery is how often a node says that it is there, and compares what it
	// has with what the primary has. beatPatience is how long that may take.
	beatEvery    = 2 * time.Second
	beatPatience = 2 * time.Second
	// leaseTime is how long a node is there after a beat. With freshTime that is
	// below ten seconds.
	leaseTime = 7 * time.Second
	// freshTime is how long what a beat has said of other nodes is taken for
	// true.
	freshTime = 2500 * time.Millisecond
	// maxDrift is how much the server's clock and this one may differ about the
	// time between two beats, before the server counts as another.
	maxDrift = time.Second
)

//go:embed beat.lua
var beatSource string

var beatScript = redis.NewScript(beatSource)

// crowd is what a node knows of the others.
type crowd struct {
	mu    sync.Mutex
	names []string
	heard time.Time // when the last beat was sent that went well
	since time.Time // when the first was, of those without a break
	clock time.Time // of the server, at heard
}

// beat is what the primary said.
type beat struct {
	identity string
	last     point
	refused  string
	clock    time.Time
	was      bool // the lease of this node had not ended
	readers  bool // what it has reported was there
	names    []string
}

// beats tells the other nodes that this one is there, until ctx ends, and keeps
// watch over the tail: a server that is not the primary any more still answers
// who reads from it.
func (l *Log) beats(ctx context.Context) {
	defer l.leave()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var watch watch
	for {
		identity, before, ready := l.standing.progress()
		sent := time.Now()
		b, err := l.beat(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && b.refused != "" {
			err = errors.New(b.refused)
			if !strings.HasPrefix(b.refused, "READONLY") {
				// It is the primary, although it takes no writes now.
				watch.failed = 0
				l.crowd.broken()
				err = nil
			}
		} else if err == nil {
			l.crowd.hear(b, sent)
			l.readers.kept(ctx, l, b.readers)
		}
		if err != nil {
			l.crowd.broken()
			l.failed()
		}
		if doubt := watch.judge(b, err, identity, before, ready); doubt != nil {
			l.standing.interrupt(doubt)
		}
		pause := tick.C
		if err != nil {
			pause = time.After(beatEvery / 8)
		}
		select {
		case <-pause:
		case <-ctx.Done():
			return
		}
	}
}

// beat says that this node is there.
func (l *Log) beat(ctx context.Context) (*beat, error) {
	ctx, cancel := context.WithTimeout(ctx, beatPatience)
	defer cancel()
	primary, release, err := l.primary(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	reply, err := beatScript.Run(ctx, primary, []string{l.keys.meta, l.keys.nodes, l.keys.node + l.node},
		l.node, leaseTime.Milliseconds()).Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) != 7 {
		return nil, errReply
	}
	b := &beat{was: reply[4] == int64(1), readers: reply[5] == int64(1)}
	b.identity, _ = reply[0].(string)
	last, _ := reply[1].(string)
	b.last, _ = parsePoint([]byte(last))
	b.refused, _ = reply[2].(string)
	clock, _ := reply[3].(string)
	ms, err := strconv.ParseInt(clock, 10, 64)
	if err != nil {
		return nil, errReply
	}
	b.clock = time.UnixMilli(ms)
	names, _ := reply[6].([]any)
	for _, name := range names {
		if name, ok := name.(string); ok {
			b.names = append(b.names, name)
		}
	}
	slices.Sort(b.names)
	return b, nil
}

// leave ends the lease of this node, so that nobody has to wait for that.
func (l *Log) leave() {
	l.crowd.broken()
	// ctx has ended, and the log may have, too.
	ctx, cancel := context.WithTimeout(context.Background(), beatPatience/4)
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

// hear takes in what a beat has said, that was sent at that time.
func (c *crowd) hear(b *beat, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	drift := b.clock.Sub(c.clock) - sent.Sub(c.heard)
	// After a break all leases may have ended, and nobody is dead for that. A
	// clock that jumps is that of another server, or ends leases, too.
	if c.since.IsZero() || !b.was || drift.Abs() > maxDrift {
		c.since = sent
	}
	c.names, c.heard, c.clock = b.names, sent, b.clock
}

// broken says that a beat has failed.
func (c *crowd) broken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Time{}
}

// all are the names of the nodes, and whether they are known for sure: all
// others have had the time to say that they are there, and did so just now.
func (c *crowd) all() (names []string, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() || time.Since(c.heard) > freshTime {
		return nil, false
	}
	return c.names, c.heard.Sub(c.since) >= leaseTime
}

// Members implements broker.Cluster.
func (l *Log) Members() ([]string, bool) {
	names, sure := l.crowd.all()
	if !sure {
		return nil, false
	}
	return slices.Clone(names), true
}

// watch compares what the tail has with what the primary has.
type watch struct {
	failed int   // beats, one after the other
	at     point // what the tail had at the last beat
	last   point // what the primary had then, if that was more
}

var (
	errBehind  = errors.New("the primary is another one, or lost what it had")
	errAnother = errors.New("the log in Redis is another one")
	errSilent  = errors.New("the server that is read from does not have what the primary has")
	errNoBeat  = errors.New("the primary is out of reach")
)

// judge returns why the tail should connect anew and compare, nil if it need
// not. The tail was at before when the beat was sent.
func (w *watch) judge(b *beat, err error, identity string, before point, ready bool) error {
	if err != nil {
		if w.failed++; w.failed > 1 {
			return fmt.Errorf("%w: %w", errNoBeat, err)
		}
		return nil
	}
	w.failed = 0
	behind := w.last
	waited := w.at == before && behind.id.After(before.id)
	w.at, w.last = before, b.last
	switch {
	case !ready:
		w.last = point{}
	case b.identity != identity:
		return errAnother
	case before.id.After(b.last.id), before.id == b.last.id && before != b.last:
		return errBehind
	case waited:
		return errSilent
	}
	return nil
}

// readers is what this node has reported, to be reported again where Redis has
// lost it.
type readers struct {
	turn  chan struct{} // holds one value while nobody reports
	table map[string]int
	whole bool // Redis may not have all of it
}

func newReaders() readers {
	r := readers{turn: make(chan struct{}, 1), table: map[string]int{}}
	r.turn <- struct{}{}
	return r
}

// readersStep is how many channels are reported or asked for at once.
const readersStep = 1000

// Report implements broker.Cluster.
func (l *Log) Report(ctx context.Context, readers map[string]int) error {
	if l.isClosed() {
		return broker.ErrClosed
	}
	r := &l.readers
	select {
	case <-r.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	for name, n := range readers {
		if n == 0 {
			delete(r.table, name)
		} else {
			r.table[name] = n
		}
	}
	return r.send(ctx, l, readers)
}

// kept reports everything again, if Redis does not have it.
func (r *readers) kept(ctx context.Context, l *Log, has bool) {
	select {
	case <-r.turn:
	default:
		return // somebody reports just now
	}
	defer func() { r.turn <- struct{}{} }()
	if !has && len(r.table) > 0 || r.whole {
		r.whole = true
		_ = r.send(ctx, l, nil) // the next beat tries again
	}
}

// send shares what has changed or, where Redis may not have the rest, all.
func (r *readers) send(ctx context.Context, l *Log, changed map[string]int) error {
	primary, release, err := l.primary(ctx)
	if err != nil {
		r.whole = true
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	defer release()
	key := l.keys.node + l.node
	_, err = primary.Pipelined(ctx, func(p redis.Pipeliner) error {
		if r.whole {
			p.Unlink(ctx, key)
			changed = r.table
		}
		var set []any
		var gone []string
		for name, n := range changed {
			if n == 0 {
				gone = append(gone, name)
			} else {
				set = append(set, name, n)
			}
		}
		for part := range slices.Chunk(set, 2*readersStep) {
			p.HSet(ctx, key, part...)
		}
		for part := range slices.Chunk(gone, readersStep) {
			p.HDel(ctx, key, part...)
		}
		p.PExpire(ctx, key, leaseTime)
		return nil
	})
	r.whole = err != nil
	if err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	return nil
}

// Readers implements broker.Cluster.
func (l *Log) Readers(ctx context.Context, names []string) ([]int, error) {
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	members, _ := l.crowd.all()
	if members == nil {
		return nil, fmt.Errorf("%w: which nodes there are is not known", broker.ErrUnavailable)
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
					return nil, fmt.Errorf("a number of readers is %q", text)
				}
				sums[part.from+i] += n
			}
		}
	}
	return sums, nil
}
