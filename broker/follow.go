package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// standing says how far what was applied is behind the log. It is not modified.
type standing struct {
	loaded bool      // all was applied that the log had when it was opened
	cut    error     // why entries may be missing since; nil if none are
	ended  bool      // Follow has returned: nothing more will be applied
	since  time.Time // since when it is loaded, or cut
	said   []string  // the reasons that were logged since Ready
}

// maxReasons bounds how many reasons of one outage are logged.
const maxReasons = 8

// follower is the Broker as its log sees it.
type follower struct {
	b       *Broker
	started bool
	once    sync.Once
	first   chan struct{} // closed when the log is loaded, or known to be out of reach
	whole   chan struct{} // closed when Older has given all
}

// errFollowEnded is what a Follow ended with that returned no error.
var errFollowEnded = errors.New("it ended by itself")

// run follows the log until it ends. Until New has returned, which closes
// running, New is told the error.
func (f *follower) run(ctx context.Context, failed chan<- error, running <-chan struct{}) {
	err := f.b.log.Follow(ctx, f)
	if err == nil {
		err = errFollowEnded
	}
	select {
	case failed <- err:
	case <-running:
		f.end(ctx, err)
	}
}

// end notes that the log is not followed any more. Unless the broker is being
// closed this is a fault of the log, because faults must not end Follow.
func (f *follower) end(ctx context.Context, err error) {
	b := f.b
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed || ctx.Err() != nil {
		return
	}
	was := b.standing.Load()
	b.standing.Store(&standing{loaded: was.loaded, cut: err, ended: true, since: time.Now()})
	b.mu.Lock()
	b.older.waiting.releaseAll()
	b.mu.Unlock()
	b.config.Load().Logger.Error("following the log ended: nothing more is applied", slog.Any("error", err))
}

// Start implements Follower.
func (f *follower) Start(o Origin) {
	b := f.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.started {
		b.restart(o)
		return
	}
	f.started = true
	if o.Older {
		b.older.reached(o.ID)
	}
	b.issued, b.durable, b.born, b.known, b.void = newIssuedIDs(o.ID), o.Durable, o.Born, o.Issued, o.Void
	b.missing.add(o, b.digest)
	b.head.Store(&o.ID)
	b.loadStates(o)
	b.loadClosed(o)
	b.sendFacts()
}

// Apply implements Follower.
func (f *follower) Apply(entries []Entry) { f.b.apply(entries) }

// Ready implements Follower.
func (f *follower) Ready() {
	b := f.b
	b.mu.Lock()
	b.passVoid()
	b.mu.Unlock()
	was := b.standing.Swap(&standing{loaded: true, since: time.Now()})
	if !was.loaded {
		b.notices.add(Notice{Settled: true})
	}
	f.once.Do(func() { close(f.first) })
	if was.loaded && was.cut != nil {
		b.config.Load().Logger.Info("the log is in reach again", slog.Duration("after", time.Since(was.since)))
	}
	b.kickExpiry()
}

// Cut implements Follower. Each reason is logged once in an outage.
func (f *follower) Cut(err error) {
	b := f.b
	was := b.standing.Load()
	now := &standing{loaded: was.loaded, cut: err, since: time.Now(), said: was.said}
	if err == nil {
		now.cut = ErrLoading
	}
	if was.cut != nil {
		now.since = was.since
	}
	known := err == nil || len(was.said) == maxReasons || slices.Contains(was.said, err.Error())
	if !known {
		now.said = append(slices.Clip(was.said), err.Error())
	}
	b.standing.Store(now)
	if err != nil {
		f.once.Do(func() { close(f.first) })
	}
	if !known {
		b.config.Load().Logger.Error("the log is out of reach", slog.Bool("loaded", now.loaded), slog.Any("error", err))
	}
}

var _ Follower = (*follower)(nil)

// Loaded reports why the broker can not be read or published to: ErrLoading until
// this node has applied all that the log had when it was opened, ErrUnavailable
// when following the log has ended, else nil.
func (b *Broker) Loaded() error {
	switch s := b.standing.Load(); {
	case s.ended:
		return fmt.Errorf("%w: %w", ErrUnavailable, s.cut)
	case s.loaded:
		return nil
	case s.cut == nil || errors.Is(s.cut, ErrLoading):
		return ErrLoading
	default:
		return fmt.Errorf("%w: %w", ErrLoading, s.cut)
	}
}

// Stale reports since when what this node has applied may be behind the log; false
// if it is not behind. On a log that cannot be reached it is true.
func (b *Broker) Stale() (since time.Time, stale bool) {
	s := b.standing.Load()
	return s.since, s.cut != nil
}

// Sync waits until this node has applied all that the log had when Sync was called.
// It returns ErrUnavailable if the log is out of reach.
func (b *Broker) Sync(ctx context.Context) error {
	if err := b.Loaded(); err != nil {
		return err
	}
	return b.log.Sync(ctx)
}

// Reach waits until this node has what a reader begins with. Of a log that is shared it
// may not have applied the position that a client resumes from: another node that is ahead
// of this one may have sent it. It does not wait for a cursor that the log cannot have
// issued. It returns ErrUnavailable if that cannot be known, because the log is out of
// reach. And of a log that was opened just now it may not have all that is retained: it
// returns ErrLoading if the context's deadline comes first.
func (b *Broker) Reach(ctx context.Context, start Start) error {
	if !b.Complete() {
		return b.awaitOlder(ctx, start)
	}
	id, ok := ParseID(start.LastEventID)
	if b.cluster == nil || !ok || !id.After(b.Head()) {
		return nil
	}
	if id.Ms > b.now()+uint64(maxAhead/time.Millisecond) {
		return nil // no clock is so wrong: the client made it up
	}
	return b.Sync(ctx)
}

// maxAhead bounds how far the clock of the log may be ahead of this node's.
const maxAhead = 10 * time.Minute
