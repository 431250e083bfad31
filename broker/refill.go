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
func (b *Broker) refill(p *feed, since ID) {
	b.voidFilling(p)
	r := b.newFilling(p, since)
	r.run()
	b.looked += r.looked
}

// releasePassed drops what all readers of a pattern have passed, once it is older than
// what a reader needs that was cut off and comes back.
func (b *Broker) releasePassed(p *feed, now uint64) {
	const held = uint64(liveTail / time.Millisecond)
	if p.pattern == nil || len(p.readers) == 0 || p.pins > 0 || p.refilled+held > now {
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
