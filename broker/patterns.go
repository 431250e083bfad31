package broker

import (
	"sort"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Making, refilling and dropping the feeds of patterns. All of it under Broker.mu.

// addPattern adds the feed of a pattern, empty: it is refilled for the first
// reader that begins earlier than now.
func (b *Broker) addPattern(p channel.Pattern) (*feed, error) {
	if len(b.patterns) >= b.cfg.MaxPatterns && !b.removeUnread() {
		return nil, ErrTooManyPatterns
	}
	f := newFeed(p.String(), b.cfg.History)
	f.pattern = &p
	f.complete = b.issued.last
	f.trimmed = b.issued.last
	b.patterns[f.name] = f
	return f, nil
}

// refill gives a pattern anew what its channels keep above since, as far as its
// own bound on bytes reaches back.
func (b *Broker) refill(p *feed, since ID, now uint64) {
	b.empty(p)
	p.rewind() // what comes is older than what was
	p.trimmed, p.complete = b.missingMatching(p.pattern), since
	var parts []*feed
	for _, f := range b.feeds {
		if !p.pattern.Match(f.name) {
			continue
		}
		f.expire(now)
		p.lose(f.trimmed)
		if newest := f.newest(); newest.After(since) {
			parts = append(parts, f)
		} else {
			p.lose(newest) // kept, but not here
		}
	}
	from := latest(since, fitting(parts, p.policy.Bytes))
	heads := make([]place, 0, len(parts))
	for _, f := range parts {
		at := f.after(from)
		if before := at.seg.idBefore(at.i); at.seq() > f.kept.seq() {
			p.lose(before)
		}
		heads = append(heads, at)
	}
	b.merging = true // room for the pattern may have to come from what is merged
	mergePlaces(heads, func(e *entry, block []byte) {
		if !e.meta.live {
			b.append(p, e.id, e.meta, e.own, block)
		}
	})
	b.merging = false
	p.expire(now)
}

// fitting is the position after which what the feeds have fits in size bytes, by
// whole segments.
func fitting(parts []*feed, size int) ID {
	type stretch struct {
		before ID
		charge int
	}
	var all []stretch
	for _, f := range parts {
		for seg := f.oldest; seg != nil; seg = seg.next.Load() {
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

// unreadFor is how long a pattern without readers is kept, for those that were cut
// off and come back: to refill it takes long where there are many channels.
const unreadFor = 10 * time.Second

func (b *Broker) removePattern(p *feed) {
	b.discharge(p)
	delete(b.patterns, p.name)
}

// removeUnread removes a pattern without readers, if there is one.
func (b *Broker) removeUnread() bool {
	for _, p := range b.patterns {
		if len(p.readers) == 0 {
			b.removePattern(p)
			return true
		}
	}
	return false
}
