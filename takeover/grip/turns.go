package grip

import (
	"context"
	"errors"
	"sync"
	"time"
)

// turns bounds the requests of a proxy's own: how many there are at a time, and how many
// wait. Each share of the hub, which is a caller or an address, has its part of both.
type turns struct {
	all      chan struct{} // has who has a turn
	of       int           // how many turns one share may have
	most     int           // how many may have one or wait
	mostOf   int           // of one share
	mu       sync.Mutex    // guards what follows
	waiting  int           // with those that have a turn
	byShare  map[string]*shareTurns
	overflow int       // how many were refused and not told of
	told     time.Time // when they were
}

type shareTurns struct {
	all     chan struct{}
	waiting int
}

// newTurns returns turns for so many requests at a time, of most that may be there.
func newTurns(atOnce, most int) *turns {
	return &turns{
		all: make(chan struct{}, atOnce), of: max(1, atOnce/sharesAtOnce), most: most, mostOf: max(1, most/shares),
		byShare: make(map[string]*shareTurns),
	}
}

// The part of one share: a quarter of the turns, and a tenth of those that wait.
const (
	sharesAtOnce = 4
	shares       = 10
)

var errTooManyWait = errors.New("too many wait for their turn")

// acquire waits for a turn, at most until ctx ends. release gives it back. The share "",
// which is that of the operator's own clients, may have all.
func (t *turns) acquire(ctx context.Context, share string) (release func(), err error) {
	own, err := t.enter(share)
	if err != nil {
		return nil, err
	}
	for _, turn := range []chan struct{}{own, t.all} {
		if turn == nil {
			continue
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			if turn == t.all && own != nil {
				<-own
			}
			t.leave(share)
			return nil, ctx.Err()
		}
	}
	return func() {
		<-t.all
		if own != nil {
			<-own
		}
		t.leave(share)
	}, nil
}

// enter counts one that waits. It returns the turns of its share; nil for "".
func (t *turns) enter(share string) (chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byShare[share]
	if t.waiting >= t.most || share != "" && s != nil && s.waiting >= t.mostOf {
		t.overflow++
		return nil, errTooManyWait
	}
	t.waiting++
	if share == "" {
		return nil, nil
	}
	if s == nil {
		s = &shareTurns{all: make(chan struct{}, t.of)}
		t.byShare[share] = s
	}
	s.waiting++
	return s.all, nil
}

func (t *turns) leave(share string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting--
	if share == "" {
		return
	}
	if s := t.byShare[share]; s.waiting == 1 {
		delete(t.byShare, share)
	} else {
		s.waiting--
	}
}

// refused is how many were refused and not told of, for the log: at once for the first of a
// minute, and the rest after it, or when nobody waits any more.
func (t *turns) refused(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.overflow == 0 || t.waiting > 0 && now.Sub(t.told) < time.Minute {
		return 0
	}
	n := t.overflow
	t.overflow, t.told = 0, now
	return n
}
