package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Values that go by themselves: when their time is over, or with the session
// that they are bound to. The log decides it as it decides any write, so that
// who wrote in the meantime wins, and every node hears of it.

const (
	// expiryStep is how many values one append removes.
	expiryStep = 256
	// expiryPause is the time until a removal is tried again that met a write,
	// and expiryRetry that met a log which fails, or whose clock is behind.
	expiryPause = 10 * time.Millisecond
	expiryRetry = time.Second
	// leadEvery is how often a node looks whether it is the one of those that
	// share a log which does this for all, and whether others are gone.
	leadEvery = time.Second
	// factsEvery is how often facts are looked at for such that have ended.
	factsEvery = 10 * time.Second
)

// expiry has what the goroutine that removes values looks at, beside states.
// Broker.mu guards it.
type expiry struct {
	kick   chan struct{}       // there is something new to look at
	open   map[string]int      // sessions that are read, by name
	ended  map[string]struct{} // sessions that have ended and may have values
	looked uint64              // when facts were looked at last, in milliseconds
	pause  time.Duration       // before what the log takes for younger is tried again
}

func newExpiry() expiry {
	return expiry{
		kick:  make(chan struct{}, 1),
		open:  map[string]int{},
		ended: map[string]struct{}{},
	}
}

func (b *Broker) kickExpiry() {
	select {
	case b.expiry.kick <- struct{}{}:
	default:
	}
}

// isOpen reports whether a session is read here.
func (b *Broker) isOpen(session string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.expiry.open[session] > 0
}

// enter notes that a session has begun. Broker.mu is held.
func (b *Broker) addSession(session string) {
	if session != "" {
		b.expiry.open[session]++
	}
}

// leave notes that a session has ended: what is bound to it goes. Broker.mu is
// held.
func (b *Broker) removeSession(session string) {
	if session == "" {
		return
	}
	if b.expiry.open[session]--; b.expiry.open[session] > 0 {
		return
	}
	delete(b.expiry.open, session)
	if len(b.states.bound[session]) > 0 {
		b.expiry.ended[session] = struct{}{}
		b.kickExpiry()
	}
}

// endIfClosed removes what is bound to a session that is not open any more.
func (b *Broker) endIfClosed(session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expiry.open[session] == 0 {
		b.expiry.ended[session] = struct{}{}
		b.kickExpiry()
	}
}

// keepStates runs until ctx ends.
func (b *Broker) expireStates(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var outage outage
	for {
		ops, wait := b.overdue()
		if len(ops) > 0 {
			results, err := b.log.Append(ctx, ops)
			if errors.Is(err, ErrClosed) || ctx.Err() != nil {
				return
			}
			logger := b.config.Load().Logger
			if outage.begins(err) {
				logger.Error("removing expired values fails: trying again until it succeeds", slog.Any("error", err))
			}
			if after, ok := outage.ends(err); ok {
				logger.Info("removing expired values succeeds again", slog.Duration("after", after))
			}
			if err != nil {
				wait = expiryRetry
			} else if wait = b.postpone(ops, results); wait == 0 {
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.expiry.kick:
		}
	}
}

// overdue are removals that are due, or else the time until one may be.
func (b *Broker) overdue() (ops []Op, wait time.Duration) {
	now := b.now()
	if b.Loaded() != nil {
		return nil, expiryRetry // or until it is
	}
	members, leads := b.leads()
	b.mu.Lock()
	defer b.mu.Unlock()
	remove := func(c *stateCell, condition Condition) {
		condition.Versions = []ID{c.cur.Load().id}
		ops = append(ops, Op{Kind: KindState, Channel: c.name, State: &StateOp{If: condition}})
	}
	for _, session := range b.orphans(members, leads) {
		b.expiry.ended[session] = struct{}{}
	}
	for session := range b.expiry.ended {
		set := b.states.bound[session]
		if len(set) == 0 {
			delete(b.expiry.ended, session)
		}
		for c := range set {
			if len(ops) == expiryStep {
				return ops, 0
			}
			remove(c, Condition{Kind: IfVersion})
		}
	}
	if !leads {
		return ops, leadEvery
	}
	if b.expiry.looked+uint64(factsEvery/time.Millisecond) <= now {
		ended := b.endedFacts(now)
		if len(ended) < expiryStep { // else there are more
			b.expiry.looked = now
		}
		ops = append(ops, ended...)
	}
	// Those that are due are the root of the heap, and some beneath it.
	h := b.states.byDue
	due := make([]int, 0, 1)
	if len(h) > 0 {
		due = append(due, 0)
	}
	for len(due) > 0 && len(ops) < expiryStep {
		i := due[len(due)-1]
		due = due[:len(due)-1]
		c := h[i]
		if c.due > now {
			continue
		}
		remove(c, Condition{Kind: IfIdle, Idle: c.policy.TTL})
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			due = append(due, child)
		}
	}
	wait = time.Hour
	switch {
	case b.cluster != nil:
		wait = leadEvery
	case len(b.facts) > 0:
		wait = factsEvery
	}
	if len(h) > 0 {
		clock := uint64(max(time.Now().UnixMilli(), 0)) // which may have stepped back behind now
		wait = min(wait, time.Duration(max(h[0].due, clock)-clock)*time.Millisecond)
	}
	return ops, max(wait, time.Millisecond)
}

// postpone plans anew what the log did not remove, and returns how long to
// wait; 0 is not at all.
func (b *Broker) postpone(ops []Op, results []Result) (wait time.Duration) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	pause, behind := max(b.expiry.pause, expiryPause), false
	for i := range results {
		r := &results[i]
		if r.Err == nil {
			continue
		}
		wait = expiryPause
		c := b.states.cell(ops[i].Channel)
		if c == nil || c.heap < 0 || ops[i].State.If.Kind != IfIdle || r.State == nil {
			continue
		}
		due := r.State.Written + uint64(c.policy.TTL.Milliseconds())
		behind = behind || due <= now
		b.states.setDue(c, max(due, now+uint64(pause.Milliseconds())))
	}
	b.expiry.pause = 0
	if behind {
		b.expiry.pause = min(2*pause, expiryRetry)
	}
	return wait
}
