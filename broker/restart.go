package broker

import (
	"bytes"
	"log/slog"
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
		b.issued = newIssuedIDs(at)
	} else {
		b.issued.cutAfter(at)
	}
	b.head.Store(&at)
	b.born = o.Born
	b.missing.add(o)
	for _, s := range b.sources {
		b.void(s, o.ID, at)
		s.lose(b.missing.of(s.policy))
	}
	for _, p := range b.patterns {
		b.void(p, o.ID, at)
		p.lose(b.missingMatching(p.pattern))
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
	b.snapshotAgain(s)
	s.signal()
}

// reloadStates gives all channels the values that a log has that starts again.
func (b *Broker) reloadStates(o Origin) {
	old := b.states
	b.states = newStates()
	b.states.gone, b.states.lost, b.states.forgot = old.gone, old.lost, old.forgot
	b.loadStates(o)
	// Whoever goes on from what stands is told of values that are not there.
	now := ID{b.issued.last.Ms, b.issued.last.N + 1}
	for _, c := range old.slots {
		if c != nil && b.states.cell(c.name) == nil {
			gone := latest(now, c.cur.Load().id)
			b.states.gone.fold(c.name, gone)
			b.states.loaded = latest(b.states.loaded, gone)
		}
	}
}
