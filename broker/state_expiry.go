package broker

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"time"
)

// The removal of values that have expired, or whose session has ended. The log
// decides each removal like any write, so that a write that came before it wins, and
// every node applies it.

const (
	// expiryStep is how many values one append removes.
	expiryStep = 256
	// expiryPause is the time until a removal is tried again if a write came
	// before it; expiryRetry, if the log failed or its clock is behind.
	expiryPause = 10 * time.Millisecond
	expiryRetry = time.Second
	// leadEvery is how often a node looks whether it is the one that removes
	// values for all, and whether other nodes have died.
	leadEvery = time.Second
	// factsEvery is how often expired facts are looked for.
	factsEvery = 10 * time.Second
)

// expiry is what expireStates works from, besides states. Broker.mu guards it.
type expiry struct {
	kick   chan struct{}       // receives when there is something new to do
	open   map[string]int      // how many subscriptions a session has, by its name
	ended  map[string]struct{} // sessions that have ended and may have values
	looked uint64              // when expired facts were last looked for, in milliseconds
	pause  time.Duration       // before a removal is tried again that the log found too early
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

// isOpen reports whether a session has a subscription here.
func (b *Broker) isOpen(session string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.expiry.open[session] > 0
}

// addSession counts a subscription of a session. Broker.mu is held.
func (b *Broker) addSession(session string) {
	if session != "" {
		b.expiry.open[session]++
	}
}

// removeSession counts a subscription of a session out. With the last one the session
// ends, and values that are bound to it are removed. Broker.mu is held.
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

// endIfClosed has the values of a session removed if it is not open.
func (b *Broker) endIfClosed(session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expiry.open[session] == 0 {
		b.expiry.ended[session] = struct{}{}
		b.kickExpiry()
	}
}

// expireStates runs until ctx ends.
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
			} else {
				b.observeStates(ops, results)
				if wait = b.postpone(ops, results); wait == 0 {
					continue
				}
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

// overdue are the removals that are due; if there are none, wait is the time until one
// may be.
func (b *Broker) overdue() (ops []Op, wait time.Duration) {
	now := b.now()
	if b.Loaded() != nil {
		return nil, expiryRetry
	}
	members, leads := b.leads()
	b.mu.Lock()
	defer b.mu.Unlock()
	remove := func(c *stateCell, session string, condition Condition) {
		condition.Versions = []ID{c.cur.Load().id}
		ops = append(ops, Op{Kind: KindState, Channel: c.name, State: &StateOp{If: condition, Session: session}})
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
			remove(c, session, Condition{Kind: IfPresent})
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
	// The cells that are due are the root of the heap, and some beneath it.
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
		remove(c, "", Condition{Kind: IfIdle, Idle: c.policy.TTL})
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

// postpone sets when the values expire that the log did not remove, and returns how
// long to wait before the next removals; 0 is not at all.
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

// byDue is a heap of cells that expire, the first one first.
type byDue []*stateCell

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due < h[j].due }
func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

func (h *byDue) Push(x any) {
	c := x.(*stateCell)
	c.heap = len(*h)
	*h = append(*h, c)
}

func (h *byDue) Pop() any {
	old := *h
	c := old[len(old)-1]
	c.heap = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}

// setDue sets when a cell expires, in milliseconds; 0 is never.
func (t *states) setDue(c *stateCell, due uint64) {
	c.due = due
	switch {
	case due == 0 && c.heap >= 0:
		heap.Remove(&t.byDue, c.heap)
	case due == 0:
	case c.heap >= 0:
		heap.Fix(&t.byDue, c.heap)
	default:
		heap.Push(&t.byDue, c)
	}
}
