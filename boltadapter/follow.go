package boltadapter

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

var errFollowed = errors.New("the log has a follower already")

// Follow implements broker.Log. What is retained is given to f while the log is used:
// only segments are not removed until all is read, and meta.db is not written.
func (l *Log) Follow(ctx context.Context, f broker.Follower) error {
	if l.phase.Load() == phaseClosed {
		return broker.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	f.Cut(nil)
	ended := func() error {
		if l.phase.Load() == phaseClosed {
			return broker.ErrClosed
		}
		return ctx.Err()
	}
	select {
	case <-l.opened:
	case <-ctx.Done():
		return ended()
	}
	if err := l.attach(ctx, f); err != nil {
		if ctx.Err() != nil {
			return ended()
		}
		return err
	}
	<-ctx.Done()
	l.committing.Lock()
	l.follower = nil
	l.committing.Unlock()
	return ended()
}

// attach makes f the follower, and then gives it what is retained, the newest first.
func (l *Log) attach(ctx context.Context, f broker.Follower) error {
	l.upkeep.Lock() // no segment is removed meanwhile
	defer l.upkeep.Unlock()
	began := time.Now()
	readers, values, err := l.begin(f)
	if err != nil {
		return err
	}
	n, err := l.giveOlder(ctx, readers, f)
	if err != nil {
		l.committing.Lock()
		l.follower = nil
		l.committing.Unlock()
		return err
	}
	l.mu.Lock()
	l.stats.loaded, l.stats.loadTime = uint64(n), time.Since(began)
	l.mu.Unlock()
	l.logger.Info("the log is loaded", slog.String("path", l.path), slog.Int("entries", n),
		slog.Int("values", values), slog.Duration("after", time.Since(began)))
	return nil
}

// begin makes f the follower of what comes from now on. It returns what reads the entries
// from before, and how many values there are.
func (l *Log) begin(f broker.Follower) (readers []*reader, values int, err error) {
	l.committing.Lock()
	defer l.committing.Unlock()
	if l.follower != nil {
		return nil, 0, errFollowed
	}
	l.mu.Lock()
	o, readers := l.origin()
	failed := l.failed
	l.mu.Unlock()
	l.loading.begin(readers)
	f.Start(o)
	f.Ready()
	l.follower = f
	if failed != nil {
		f.Cut(failed)
	}
	return readers, len(o.States), nil
}

// origin is where a follower begins, and what reads the entries from before, one for each
// chain that has any. Log.mu and Log.committing are held.
func (l *Log) origin() (broker.Origin, []*reader) {
	last := l.decider.Last()
	o := broker.Origin{
		ID: last, Durable: true, Born: l.born, Issued: last, Rules: l.rules, Mixed: l.mixed,
		Lost: map[broker.Policy]broker.ID{}, States: l.decider.States(), Closed: l.decider.Closed(),
		Removed: map[string]broker.ID{}, Forgot: l.removed.forgot,
	}
	for _, v := range l.mark.Void {
		o.Void = append(o.Void, broker.Span{After: v.After.id(), To: v.To.id()})
	}
	for i := range o.States {
		o.States[i].Owner = l.owners[o.States[i].Channel]
	}
	maps.Copy(o.Removed, l.removed.byName)
	var readers []*reader
	for policy, c := range l.chains {
		if !c.lost.IsZero() {
			o.Lost[policy] = c.lost
		}
		if r := newReader(l.disk, c); len(r.segments) > 0 {
			readers = append(readers, r)
		}
	}
	o.Older = len(readers) > 0
	return o, readers
}
