package broker

import (
	"context"
	"sort"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Making and dropping histories. All of it under Broker.mu, unless it says
// otherwise.

// sweepEvery is how often old events leave channels that nobody publishes to.
const sweepEvery = 5 * time.Second

// canMake reports whether there is room for one more channel, or one to drop.
func (b *Broker) canMake() bool {
	return len(b.sources) < b.cfg.MaxChannels || b.idle.first != nil
}

// make adds the history of a channel or of a name beneath; nil if there is no
// room. A new name beneath joins the subscriptions that it reaches.
func (b *Broker) make(name string) *source {
	if len(b.sources) >= b.cfg.MaxChannels {
		if b.idle.first == nil {
			return nil
		}
		b.drop(b.idle.first)
	}
	name = strings.Clone(name) // it may be a part of a request
	s := newSource(name, b.policyOf(name))
	s.meta = &meta{channel: name, live: s.policy.Events == 0}
	s.trimmed = b.missingOf(name)
	b.sources[name] = s
	b.idle.push(s)
	b.setFull()
	if channel.IsBeneath(name) {
		b.reached(name, func(sub *Subscription) {
			if !sub.has(s) {
				b.addBeneath(sub, s)
			}
		})
	}
	return s
}

// reached calls f for the readers of channels that a name beneath reaches, for
// each channel.
func (b *Broker) reached(name string, f func(*Subscription)) {
	for other, s := range b.sources {
		if len(s.subs) > 0 && !channel.IsBeneath(other) && channel.Reaches(name, other) {
			for _, p := range s.subs {
				f(p.sub)
			}
		}
	}
}

func newSource(name string, policy Policy) *source {
	s := &source{name: name, policy: policy, heap: -1}
	s.tail = emptySegment(nil)
	s.oldest, s.kept = s.tail, s.end()
	s.chain.Store(&chain{})
	return s
}

// used keeps s from being dropped before those used longer ago.
func (b *Broker) used(s *source) {
	if len(s.subs) == 0 {
		b.idle.remove(s)
		b.idle.push(s)
	}
}

// drop forgets a channel without readers, but for what it can no longer replay.
func (b *Broker) drop(s *source) {
	if last := s.newest(); last.After(s.trimmed) {
		s.trimmed = last
	}
	b.lossMarks.fold(s.name, s.trimmed)
	b.recharge(s, -s.charge)
	b.idle.remove(s)
	delete(b.sources, s.name)
	b.setFull()
}

func (b *Broker) setFull() { b.full.Store(!b.canMake()) }

// makePattern adds the history of a pattern.
func (b *Broker) makePattern(p channel.Pattern) (*source, error) {
	if len(b.patterns) >= b.cfg.MaxPatterns && !b.dropUnread() {
		return nil, ErrTooManyPatterns
	}
	s := newSource(p.String(), b.cfg.History)
	s.pattern = &p
	s.complete = b.issued.last
	s.trimmed = b.issued.last
	b.patterns[s.name] = s
	return s, nil
}

// rebuild fills the history of a pattern with what its channels keep above
// since, as far as its own bound on bytes reaches back.
func (b *Broker) rebuild(p *source, since ID, now uint64) {
	b.reset(p)
	p.trimmed, p.complete = b.missingMatching(p.pattern), since
	p.tail.before = ID{} // what comes is older than what was
	var parts []*source
	for _, s := range b.sources {
		if !p.pattern.Match(s.name) {
			continue
		}
		s.trim(now)
		p.lose(s.trimmed)
		if newest := s.newest(); newest.After(since) {
			parts = append(parts, s)
		} else {
			p.lose(newest) // kept, but not here
		}
	}
	from := b.reach(parts, p.policy.Bytes)
	if since.After(from) {
		from = since
	}
	heads := make([]place, 0, len(parts))
	for _, s := range parts {
		at := s.after(from)
		if before := at.seg.idBefore(at.i); at.seq() > s.kept.seq() {
			p.lose(before)
		}
		heads = append(heads, at)
	}
	b.merging = true // what is merged may yield to what it becomes
	mergePlaces(heads, func(e *entry, block []byte) {
		if !e.meta.live {
			b.append(p, e.id, e.meta, e.own, block)
		}
	})
	b.merging = false
	p.trim(now)
}

// reach is the position after which the histories of parts fit in size bytes,
// by whole segments.
func (b *Broker) reach(parts []*source, size int) ID {
	type stretch struct {
		before ID
		charge int
	}
	var all []stretch
	for _, s := range parts {
		for seg := s.oldest; seg != nil; seg = seg.next.Load() {
			all = append(all, stretch{seg.before, seg.charge()})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].before.After(all[j].before) })
	for _, st := range all {
		if size -= st.charge; size < 0 {
			return st.before
		}
	}
	return ID{}
}

// unreadFor is how long a pattern's history is kept for readers that were cut
// and come back: to fill it anew takes long where there are many channels.
const unreadFor = 10 * time.Second

// forget lets go of a channel or a pattern that nobody reads and that has
// nothing to keep, and of a pattern that nobody has read for a while.
func (b *Broker) forget(s *source, now uint64) {
	switch {
	case len(s.subs) > 0:
	case s.pattern == nil:
		if s.count() == 0 {
			b.drop(s)
		}
	case s.unread == 0 && s.charge > 0:
		s.unread = now
	case s.charge == 0 || now >= s.unread+uint64(unreadFor/time.Millisecond):
		b.dropPattern(s)
	}
}

func (b *Broker) dropPattern(p *source) {
	b.recharge(p, -p.charge)
	delete(b.patterns, p.name)
}

// dropUnread lets go of a pattern that nobody reads, if there is one.
func (b *Broker) dropUnread() bool {
	for _, p := range b.patterns {
		if len(p.subs) == 0 {
			b.dropPattern(p)
			return true
		}
	}
	return false
}

// sweepLoop runs until ctx ends.
func (b *Broker) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.sweep()
		}
	}
}

// sweep lets go of what has grown too old, a part of the channels at a time so
// that publishing goes on. It takes Broker.mu.
func (b *Broker) sweep() {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.sources {
		b.sweepOne(s, now)
		if n++; n%1024 == 0 {
			b.wake()
			b.mu.Unlock()
			b.mu.Lock()
		}
	}
	for _, s := range b.patterns {
		b.sweepOne(s, now)
	}
	b.wake()
}

func (b *Broker) sweepAll(now uint64) {
	for _, s := range b.sources {
		b.sweepOne(s, now)
	}
	for _, s := range b.patterns {
		b.sweepOne(s, now)
	}
}

func (b *Broker) sweepOne(s *source, now uint64) {
	s.trim(now)
	b.release(s, now)
	if s.state != nil {
		b.release(s.state, now)
	}
	b.forget(s, now)
}

// idleList is a list of sources, linked through their idle fields.
type idleList struct{ first, last *source }

func (l *idleList) has(s *source) bool { return s.idlePrev != nil || l.first == s }

func (l *idleList) push(s *source) {
	s.idlePrev = l.last
	if l.last != nil {
		l.last.idleNext = s
	} else {
		l.first = s
	}
	l.last = s
}

func (l *idleList) remove(s *source) {
	if !l.has(s) {
		return
	}
	if s.idlePrev != nil {
		s.idlePrev.idleNext = s.idleNext
	} else {
		l.first = s.idleNext
	}
	if s.idleNext != nil {
		s.idleNext.idlePrev = s.idlePrev
	} else {
		l.last = s.idlePrev
	}
	s.idlePrev, s.idleNext = nil, nil
}
