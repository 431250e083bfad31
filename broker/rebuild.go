package broker

import (
	"bytes"
	"log/slog"
	"sort"
)

// startAgain goes on with a log that does not go on from what was applied:
// what lies above o.ID is void, and what o.Lost says was missed. All readers
// are told. Broker.mu is held.
func (b *Broker) startAgain(o Origin) {
	b.config.Load().Logger.Error("the log does not go on from what was read: readers get a gap",
		slog.String("reason", o.Gap), slog.String("stands", o.ID.String()), slog.String("head", b.Head().String()))
	at := o.ID
	if at.IsZero() { // nothing stands
		at = o.Born
		b.given = newGiven(at)
	} else {
		b.given.cutAfter(at)
	}
	b.head.Store(&at)
	b.born = o.Born
	b.lost.take(o)
	for _, s := range b.sources {
		b.void(s, o.ID, at)
		s.lose(b.lost.of(s.policy))
	}
	for _, p := range b.patterns {
		b.void(p, o.ID, at)
		p.lose(b.lostBeneath(p.pattern))
		if p.complete.After(o.ID) {
			p.complete = at
		}
	}
	b.reloadStates(o)
	b.giveFacts()
	for s := range b.subs {
		b.interrupt(s, o, at)
	}
}

// void takes out of s what lies above id; it goes on from at.
func (b *Broker) void(s *source, id, at ID) {
	if s.state != nil {
		b.reset(s.state)
	}
	if s.trimmed.After(id) {
		s.trimmed = at
	}
	if !s.newest().After(id) {
		return
	}
	type kept struct {
		entry
		block []byte
	}
	var rest []kept
	for at := s.kept.settle(); ; at = at.settle() {
		e, ok := at.entry()
		if !ok || e.id.After(id) {
			break
		}
		rest = append(rest, kept{*e, bytes.Clone(at.seg.bytes(at.i, at.i+1))})
		at.i++
	}
	trimmed := s.trimmed
	b.reset(s)
	s.tail.before = ID{} // what comes may be older than what was
	s.trimmed = trimmed
	for _, e := range rest {
		b.append(s, e.id, e.meta, e.own, e.block)
	}
}

// interrupt moves a reader from what is void to at, and has it told.
func (b *Broker) interrupt(s *Subscription, o Origin, at ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := func(id *ID) {
		if id.After(o.ID) {
			*id = at
		}
	}
	back(&s.cursor)
	back(&s.start)
	back(&s.bare)
	for _, p := range s.positions {
		back(&p.backlog)
		back(&p.liveFrom)
		if p.chain != p.src.chain.Load() {
			p.from = p.passed()
			back(&p.from)
			p.chain, p.place = p.src.chain.Load(), p.src.after(p.from)
		}
	}
	reason := o.Gap
	if s.gap != nil && s.gap.Reason != ReasonTrimmed {
		reason = s.gap.Reason // which says more, and was not told yet
	}
	s.gap = b.newGap(reason, s.positions)
	b.walkAgain(s)
	s.signal()
}

// reloadStates gives all channels the values that a log has that starts again.
func (b *Broker) reloadStates(o Origin) {
	old := b.states
	b.states = newStates()
	b.states.gone, b.states.lost, b.states.forgot = old.gone, old.lost, old.forgot
	b.loadStates(o)
	// Whoever goes on from what stands is told of values that are not there.
	now := ID{b.given.last.Ms, b.given.last.N + 1}
	for _, c := range old.slots {
		if c != nil && b.states.cell(c.name) == nil {
			gone := latest(now, c.cur.Load().id)
			b.states.gone.fold(c.name, gone)
			b.states.loaded = latest(b.states.loaded, gone)
		}
	}
}

// cutAfter forgets the ids above id.
func (g *given) cutAfter(id ID) {
	if !g.last.After(id) {
		return
	}
	old := *g
	*g = newGiven(old.origin)
	g.cut, g.last = old.cut, id
	// The last block that begins at or below id may go beyond it.
	n := sort.Search(len(old.blocks), func(i int) bool { return old.blocks[i].first.After(id) })
	if n > 0 {
		g.blocks = old.blocks[: n-1 : n-1]
		for i := range g.blocks {
			g.bytes += len(g.blocks[i].runs)
		}
		old.blocks[n-1].each(func(r run) bool { return g.addRun(r, id) })
	}
	g.addRun(old.open, id)
}

// addRun adds the ids of r up to id, and reports whether those are all.
func (g *given) addRun(r run, id ID) bool {
	if first := (ID{r.ms, r.n}); r.count == 0 || first.After(id) {
		return false
	}
	whole := !r.last().After(id)
	if !whole {
		r.count = id.N - r.n + 1
	}
	g.close()
	g.open = r
	return whole
}
