package broker

import (
	"bytes"
	"log/slog"
)

// restart continues with a log that does not continue what was applied: entries above
// o.ID are void, and those that o.Lost tells of were missed. All readers get a gap.
// Broker.mu is held.
func (b *Broker) restart(o Origin) {
	b.config.Load().Logger.Error("the log does not go on from what was read: readers get a gap",
		slog.String("reason", o.Gap), slog.String("stands", o.ID.String()), slog.String("head", b.Head().String()))
	at := o.ID
	if at.IsZero() { // nothing remains valid
		at = o.Born
		b.issued = newIssuedIDs(at)
	} else {
		b.issued.cutAfter(at)
	}
	b.head.Store(&at)
	b.born, b.known, b.void = o.Born, o.Issued, o.Void
	b.missing.add(o, b.digest)
	b.older.reached(ID{}) // what comes again is applied from its beginning
	for _, f := range b.feeds {
		b.voidAfter(f, o.ID, at)
		f.lose(b.missing.of(f.policy))
	}
	for _, p := range b.patterns {
		b.voidFilling(p)
		b.voidAfter(p, o.ID, at)
		p.lose(b.missingMatching(p.pattern))
		if p.complete.After(o.ID) {
			p.complete = at
		}
		if p.begins.After(o.ID) {
			p.begins = at
		}
	}
	b.reloadStates(o)
	b.loadClosed(o)
	b.sendFacts()
	for s := range b.subs {
		b.interrupt(s, o, at)
	}
}

// voidAfter removes the entries above id from f. New ones will be above at.
func (b *Broker) voidAfter(f *feed, id, at ID) {
	if f.state != nil {
		b.empty(f.state)
	}
	if f.trimmed.After(id) {
		f.trimmed = at
	}
	if !f.newest().After(id) {
		return
	}
	type kept struct {
		entry
		block []byte
	}
	var rest []kept
	for e, block := range f.all() {
		if e.id.After(id) {
			break
		}
		rest = append(rest, kept{*e, bytes.Clone(block)})
	}
	trimmed := f.trimmed
	b.empty(f)
	f.rewind() // what comes may be older than what was
	f.trimmed = trimmed
	for _, e := range rest {
		b.append(f, e.id, e.meta, e.own, e.block)
	}
}

// interrupt moves a reader from entries that are void to at, and gives it a gap.
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
	if s.values != nil {
		back(&s.values.bare)
	}
	for _, p := range s.positions {
		if p.joined != nil {
			back(&p.joined.backlog)
		}
		back(&p.liveFrom)
		if p.chain != p.feed.chain.Load() {
			p.from = p.passed()
			back(&p.from)
			p.chain, p.place = p.feed.chain.Load(), p.feed.after(p.from)
		}
	}
	reason := o.Gap
	if s.gap != nil && s.gap.Reason != ReasonTrimmed {
		reason = s.gap.Reason // it was not told yet, and says more
	}
	s.gap = b.newGap(reason, s.positions)
	b.snapshotAgain(s)
	s.signal()
}

// reloadStates replaces all values by those that the log has when it starts again.
func (b *Broker) reloadStates(o Origin) {
	owners := b.disownValues()
	old := b.states
	b.states = newStates()
	b.states.gone, b.states.lost, b.states.forgot = old.gone, old.lost, old.forgot
	b.loadStates(o)
	for name, id := range owners {
		if c := b.states.cell(name); c != nil && c.owner == nil {
			c.owner = b.owners.get(id)
			c.owner.values.add(valueCount{1, rowBytes(name, c.cur.Load().value)}, 1)
		}
	}
	// Readers are told which values are not there any more.
	now := ID{b.issued.last.Ms, b.issued.last.N + 1}
	for _, c := range old.slots {
		if c != nil && b.states.cell(c.name) == nil {
			gone := latest(now, c.cur.Load().id)
			b.states.gone.raise(c.name, gone)
			b.states.loaded = latest(b.states.loaded, gone)
		}
	}
}
