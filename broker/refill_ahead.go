package broker

import (
	"slices"
	"sync"

	"github.com/evstream/caddy-evstream/channel"
)

// A refill of a pattern that many channels match takes long. So it is done in steps, ahead
// of what needs it, and others have Broker.mu between the steps. What needs it looks again
// then, and refills in one go what is still not there: that is so where channels are purged
// again and again. What is short is done in one go from the outset, and does not wait for the
// refill of another pattern.

const (
	// refillNames, refillEntries and refillSize bound a step of a refill: the names, or
	// the entries and their bytes.
	refillNames   = 512
	refillEntries = 512
	refillSize    = 128 << 10

	// refillTries is how often a refill in steps is tried.
	refillTries = 3
)

// refillSteps is how patterns are refilled in steps: one at a time, since what channels drop
// meanwhile stays in memory until it is read.
type refillSteps struct {
	turn           sync.Mutex // taken before Broker.mu
	names, entries int        // of a step
	between        func()     // what a test does between two steps, without Broker.mu
}

func newRefillSteps() refillSteps { return refillSteps{names: refillNames, entries: refillEntries} }

// pauseRefill lets others have Broker.mu, which is held, while do runs.
func (b *Broker) pauseRefill(do func()) {
	b.wake()
	b.mu.Unlock()
	defer b.mu.Lock()
	if b.steps.between != nil {
		b.steps.between()
	}
	do()
}

// takesSteps reports whether a refill of a pattern takes more than one step.
func (b *Broker) takesSteps(p *channel.Pattern) bool {
	long, entries := false, 0
	b.eachCandidate(p, b.steps.names, func() bool { long = true; return false }, func(f *feed) { entries += f.count() })
	return long || entries > b.steps.entries
}

// voidFilling has the refill of p in steps begin again, if it goes on.
func (b *Broker) voidFilling(p *feed) {
	if r := b.filling; r != nil && r.p == p {
		r.void = true
	}
}

// ahead is what was refilled ahead of what a reader needs, which it holds until end: the
// patterns stay, and no other refill in steps begins. Broker.mu is held, but within its
// methods.
type ahead struct {
	looks  Looks // of the reader; nil for no bound
	turn   bool
	pinned []*feed
	looked int
}

// may is the error of Looks.May.
func (a *ahead) may() error {
	if a.looks == nil {
		return nil
	}
	return a.looks.May()
}

// take takes the turn. Those that had it before have counted by then.
func (a *ahead) take(b *Broker) error {
	if err := a.may(); err != nil {
		return err
	}
	b.mu.Unlock()
	b.steps.turn.Lock()
	b.mu.Lock()
	a.turn = true
	return a.may()
}

func (a *ahead) end(b *Broker) {
	for _, p := range a.pinned {
		if p.pins--; p.pins == 0 && len(p.readers) == 0 {
			b.forget(p, b.now())
		}
	}
	if a.looks != nil && a.looked > 0 {
		a.looks.Count(a.looked)
	}
	if a.turn {
		b.steps.turn.Unlock()
	}
}

// refill has a pattern reach back to since.
func (a *ahead) refill(b *Broker, p *feed, since ID) {
	if !slices.Contains(a.pinned, p) {
		p.pins++
		b.unread.remove(p)
		p.unread = 0
		a.pinned = append(a.pinned, p)
	}
	for try := 0; try < refillTries && p.complete.After(since) && !b.closed; try++ {
		r := b.newFilling(p, since)
		r.runInSteps()
		a.looked += r.looked
	}
	b.wake() // the readers of a refilled history have to find their places again
}

// refillBeginning refills the patterns among names for a reader that begins at r. The
// caller has to look again at all that may have changed meanwhile.
func (b *Broker) refillBeginning(a *ahead, names []string, r resolved, id Owner) error {
	lacks := func(name string) bool {
		if p := b.patterns[name]; p != nil {
			return p.complete.After(r.after) && b.takesSteps(p.pattern)
		}
		if !channel.IsPattern(name) || !b.issued.last.After(r.after) {
			return false
		}
		p, err := channel.ParsePattern(name)
		return err == nil && b.takesSteps(&p)
	}
	if r.kind == startNow || !slices.ContainsFunc(names, lacks) {
		return nil
	}
	if err := a.take(b); err != nil {
		return err
	}
	for _, name := range names {
		if len(a.pinned) == b.cfg.MaxSubscriptionPatterns || b.closed {
			break
		}
		if !lacks(name) {
			continue
		}
		p, err := b.feedOf(name, id)
		if err != nil || len(p.readers) >= b.cfg.MaxSubscribers {
			break // the beginning will be refused
		}
		a.refill(b, p, r.after)
	}
	return nil //nolint:nilerr // who subscribes will be told
}

// refillFallen refills the patterns that a reader has fallen off.
func (b *Broker) refillFallen(a *ahead, s *Subscription) error {
	type need struct {
		p     *feed
		since ID
	}
	needs := func() (list []need, long bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.positions {
			if !p.settle() && s.needsRefill(p) {
				list = append(list, need{p.feed, s.resumes(p)})
				long = long || b.takesSteps(p.feed.pattern)
			}
		}
		return list, long
	}
	switch list, long := needs(); {
	case len(list) == 0:
		return nil
	case !long:
		return a.may()
	}
	if err := a.take(b); err != nil {
		return err
	}
	list, _ := needs()
	for _, n := range list {
		if b.patterns[n.p.name] == n.p && b.takesSteps(n.p.pattern) {
			a.refill(b, n.p, n.since)
		}
	}
	return nil
}
