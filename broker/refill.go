package broker

import (
	"slices"
	"time"
)

// A pattern keeps what its readers still have to read, and no copy of the rest: a new
// reader that begins earlier has it refilled from the channels. What it has is a
// stretch without a hole, from its complete on:
//
//	channels  ────────────────────────────────▶
//	pattern             refilled ◀─ complete ─▶ applied
//	                    released as readers pass

// refill has a pattern reach back to since, as far as its own bound on bytes goes, by
// what its channels keep. Its readers stay where they are.
func (b *Broker) refill(p *feed, since ID, now uint64) {
	older, oldest := newFeed(p.name, p.policy), p.oldest
	// It may reach less far back than its complete, for lack of room.
	until := latest(p.complete, p.begins)
	p.complete, p.refilled = since, now
	older.pattern = p.pattern
	b.setOwner(older, p.owner)
	empty := p.size == 0
	if empty { // its readers wait for an entry, and have to find the first one
		until = b.issued.last
		b.empty(p)
	}
	older.policy.Bytes -= p.size
	older.trimmed = b.missingMatching(p.pattern)
	var parts []*feed
	b.eachSelected(p.pattern, func(f *feed) {
		f.expire(now)
		older.lose(f.trimmed)
		if newest := f.newest(); newest.After(since) {
			parts = append(parts, f)
		} else {
			older.lose(newest) // kept, but not here
		}
	})
	from := latest(since, fitting(parts, until, older.policy.Bytes))
	older.beginAfter(from)
	heads := make([]place, 0, len(parts))
	for _, f := range parts {
		at := f.after(from)
		if before := at.seg.idBefore(at.i); at.seq() > f.kept.seq() {
			older.lose(before)
		}
		heads = append(heads, at)
	}
	b.merging = true // room for the pattern may have to come from what is merged
	mergePlaces(heads, until, func(e *entry, block []byte) {
		b.looked++
		if !e.meta.live {
			b.append(older, e.id, e.meta, e.own, block)
		}
	})
	b.merging = false
	for older.size > 0 && p.size+older.size > p.policy.Bytes {
		b.dropOldest(older)
	}
	b.discharge(older)
	if p.oldest != oldest && !empty {
		return // it has lost entries above until to make room: there would be a hole
	}
	if !p.trimmed.After(until) {
		p.trimmed = older.trimmed
		if p.trimmed.After(until) {
			p.trimmed = until // p has what channels have lost above
		}
	}
	p.begins = until
	if older.size > 0 {
		p.begins = latest(from, older.begins)
		p.prepend(&older.history)
	}
	b.charge(p)
	p.expire(now)
}

// releasePassed drops what all readers of a pattern have passed, once it is older than
// what a reader needs that was cut off and comes back.
func (b *Broker) releasePassed(p *feed, now uint64) {
	const held = uint64(liveTail / time.Millisecond)
	if p.pattern == nil || len(p.readers) == 0 || p.refilled+held > now {
		return
	}
	for p.size > 0 {
		n := p.oldest.n.Load()
		last := p.oldest.idBefore(n)
		if last.Ms+held > now || !p.passed(p.oldest.first+uint64(n)) {
			return
		}
		p.complete = latest(p.complete, last)
		if p.release() {
			b.touch(p)
		}
		b.charge(p)
	}
}

// passed reports whether all readers are at the entry with that number, or above.
func (f *feed) passed(seq uint64) bool {
	return !slices.ContainsFunc(f.readers, func(p *position) bool {
		p.sub.mu.Lock()
		defer p.sub.mu.Unlock()
		return p.chain != f.chain.Load() || p.place.seq() < seq
	})
}
