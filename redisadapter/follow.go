package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// The pause before the next attempt to connect: it doubles from firstPause to
// lastPause, and up to a half of it is taken off at random.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// follow is one call of Follow. It is for one goroutine.
type follow struct {
	log      *Log
	follower broker.Follower

	of      lineage        // of the log; zero before Start
	streams []*streamTail  // the first is "live"
	at      entry.Point    // the newest entry that was taken
	ring    entry.Ring     // the entries up to at
	batch   []broker.Entry // what was taken and is not applied yet
	skipped map[[2]byte]bool

	told   reasons       // of Cut, since Ready
	pause  time.Duration // before the next attempt to connect
	policy string        // maxmemory-policy, when it was checked last
	memory int64         // maxmemory, likewise
}

// lineage tells one log from another, and from itself before it lost its values.
type lineage struct {
	log       string // its identity
	valueless string // how often it has lost its values, "" if never
}

// progress is how far a follower has come.
type progress struct {
	of    lineage     // of the log that it follows
	at    entry.Point // the newest entry that it has applied
	ready bool        // since Ready, until its connection ends
	idle  int         // how many reads have returned nothing
}

// standing is the progress of the follower, for other goroutines.
type standing struct {
	mu    sync.Mutex
	taken bool          // there is a follower
	left  chan struct{} // closed when the other nodes were told that this one leaves
	now   progress
	link  *link // the connection that it reads from, nil if there is none
}

var errFollowed = errors.New("the log has a follower already")

// Follow implements broker.Log.
func (l *Log) Follow(ctx context.Context, f broker.Follower) error {
	if l.isClosed() {
		return broker.ErrClosed
	}
	if !l.standing.take() {
		return errFollowed
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.ctx, cancel)
	var with sync.WaitGroup
	defer func() {
		stop()
		cancel()
		with.Wait()
		l.applied.end()
		l.standing.end()
	}()

	fo := &follow{
		log: l, follower: f,
		ring: entry.NewRing(entry.MaxRing), skipped: map[[2]byte]bool{}, pause: firstPause,
	}
	f.Cut(nil)
	with.Go(func() {
		l.beats(ctx)
		l.leave()
		l.standing.hasLeft()
	})
	with.Go(func() { l.trims(ctx) })
	for {
		err := fo.once(ctx)
		switch {
		case l.isClosed():
			return broker.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		fo.fail(ctx, err)
	}
}

// once follows for as long as one connection lasts.
func (fo *follow) once(ctx context.Context) error {
	primary, release, err := fo.log.primary(ctx)
	if err != nil {
		return err
	}
	w, err := dialLink(ctx, primary, linkPatience)
	release()
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer w.close()
	defer context.AfterFunc(ctx, func() { w.cut(ctx.Err()) })()
	fo.log.standing.reads(w)
	defer fo.log.standing.reads(nil)

	v, err := fo.locate(ctx, w)
	if err != nil {
		return err
	}
	return (&tail{follow: fo, link: w}).run(ctx, v.last)
}

// fail tells the follower why nothing comes any more, unless it was told so
// already since Ready, looks where the primary is, and waits for the next attempt.
func (fo *follow) fail(ctx context.Context, err error) {
	if fo.told.add(err.Error()) {
		fo.follower.Cut(err)
	}
	fo.log.failed()
	pause := fo.pause
	fo.pause = min(2*pause, lastPause)
	select {
	case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter
	case <-ctx.Done():
	}
}

// ready tells the follower that it has applied all that the log had.
func (fo *follow) ready() {
	fo.told = nil
	fo.log.standing.isReady()
	fo.follower.Ready()
}

// pass notes that an entry was taken.
func (fo *follow) pass(m entry.Point) {
	fo.at = m
	fo.ring.Add(m)
}

// apply gives the follower what was taken.
func (fo *follow) apply() {
	if len(fo.batch) > 0 {
		fo.follower.Apply(fo.batch)
		clear(fo.batch)
		fo.batch = fo.batch[:0]
	}
	fo.log.standing.applied(fo.of, fo.at)
	fo.log.applied.reached(fo.at.ID)
}

func (s *standing) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return false
	}
	s.taken, s.left = true, make(chan struct{})
	return true
}

// hasLeft notes that the other nodes were told that this one leaves.
func (s *standing) hasLeft() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.left)
}

// waitLeft waits until the other nodes were told, if there is a follower, but no
// longer than leaveTime.
func (s *standing) waitLeft() {
	s.mu.Lock()
	taken, left := s.taken, s.left
	s.mu.Unlock()
	if !taken {
		return
	}
	select {
	case <-left:
	case <-time.After(leaveTime):
	}
}

func (s *standing) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.now, s.link = false, progress{}, nil
}

func (s *standing) reads(w *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.now.ready = w, false
}

func (s *standing) isReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.ready = true
}

func (s *standing) applied(of lineage, at entry.Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.of, s.now.at = of, at
}

func (s *standing) idles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.idle++
}

func (s *standing) progress() progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// interrupt makes the follower connect again and compare what it has applied with
// what the log has. err is the reason.
func (s *standing) interrupt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil && s.now.ready {
		s.link.cut(err)
	}
}
