package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// standing says how what was applied relates to what the log has.
type standing struct {
	loaded bool  // all was applied that the log had at first
	cut    error // why what was applied may be behind; nil if it is not
	since  time.Time
}

// follower is the Broker as its log sees it.
type follower struct {
	b       *Broker
	started bool
	once    sync.Once
	first   chan struct{} // closed when it is loaded, or known to be out of reach
}

// Start implements Follower.
func (f *follower) Start(o Origin) {
	b := f.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.started {
		b.startAgain(o)
		return
	}
	f.started = true
	b.given, b.durable, b.born = newGiven(o.ID), o.Durable, o.Born
	b.lost.take(o)
	b.head.Store(&o.ID)
	b.loadStates(o)
	b.giveFacts()
}

// Apply implements Follower.
func (f *follower) Apply(entries []Entry) { f.b.apply(entries) }

// Ready implements Follower.
func (f *follower) Ready() {
	b := f.b
	was := b.standing.Swap(&standing{loaded: true, since: time.Now()})
	if !was.loaded {
		b.notices.add(Notice{Settled: true})
	}
	f.once.Do(func() { close(f.first) })
	if was.loaded && was.cut != nil {
		b.config.Load().Logger.Info("the log is in reach again", slog.Duration("after", time.Since(was.since)))
	}
	b.kickStates()
}

// Cut implements Follower.
func (f *follower) Cut(err error) {
	b := f.b
	was := b.standing.Load()
	now := &standing{loaded: was.loaded, cut: err, since: time.Now()}
	if err == nil {
		now.cut = ErrLoading
	}
	if was.cut != nil {
		now.since = was.since
	}
	b.standing.Store(now)
	if err != nil {
		f.once.Do(func() { close(f.first) })
		b.config.Load().Logger.Error("the log is out of reach", slog.Bool("loaded", now.loaded), slog.Any("error", err))
	}
}

var _ Follower = (*follower)(nil)

// Loaded reports why there is nothing to read yet: it is ErrLoading until this
// node has applied all that the log had when it was opened.
func (b *Broker) Loaded() error {
	switch s := b.standing.Load(); {
	case s.loaded:
		return nil
	case s.cut == nil || errors.Is(s.cut, ErrLoading):
		return ErrLoading
	default:
		return fmt.Errorf("%w: %w", ErrLoading, s.cut)
	}
}

// Stale reports since when what was applied may be behind the log; false if it
// is not.
func (b *Broker) Stale() (since time.Time, stale bool) {
	s := b.standing.Load()
	return s.since, s.cut != nil
}

// Sync returns when this node has applied all that the log had when Sync was
// called. It is ErrUnavailable where the log is out of reach.
func (b *Broker) Sync(ctx context.Context) error {
	if err := b.Loaded(); err != nil {
		return err
	}
	return b.log.Sync(ctx)
}

// Reach returns when this node has applied the position that a client wants to
// go on from, or it is known that the log did not give it. It waits only for
// what another node may have given that is ahead of this one. Where that cannot
// be known, because the log is out of reach, it is ErrUnavailable.
func (b *Broker) Reach(ctx context.Context, lastEventID string) error {
	id, ok := ParseID(lastEventID)
	if b.cluster == nil || !ok || !id.After(b.Head()) {
		return nil
	}
	if id.Ms > b.now()+uint64(maxAhead/time.Millisecond) {
		return nil // no clock is so wrong: it is made up
	}
	return b.Sync(ctx)
}

// maxAhead is how far the clocks of the log and of this node may differ.
const maxAhead = 10 * time.Minute
