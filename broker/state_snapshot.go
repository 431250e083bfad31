package broker

import (
	"slices"

	"github.com/evstream/caddy-evstream/channel"
)

// What a reader gets of values beside their changes: the newest of each when
// it begins, after a gap, and when it has fallen behind. It is told as the
// whole, without an id.

// stateSnapshot is what of that a subscription is still to be told. It does not
// hold values: it goes on where it was, and tells what is there by then.
//
// Guarded by Subscription.mu, and by Broker.mu while it goes on.
type stateSnapshot struct {
	names    []string          // channels, still to come
	patterns []channel.Pattern // the channels of which are to come
	told     []channel.Pattern // whose channels come by another name
	slots    bool              // that there may be more of patterns in states.slots
	slot     int               // where in it
	gone     []goneState
	removed  []goneState // those of patterns among them are to come, too
	// Versions above from are told, up to to: what is above that is a change.
	from, to ID
	// missed says that a value has moved above to: changes that lead on from
	// it are no use as patches.
	missed bool
	// left says that some of the names may not be read any more.
	left bool
}

// goneState is a channel that lost its value.
type goneState struct {
	name string
	id   ID
}

// What bounds one Read: the names that it compares with patterns, and the
// values that it takes.
const (
	snapshotStep   = 1024
	snapshotValues = 64
)

// maxSnapshots bounds the snapshots of a subscription that joins again and again.
const maxSnapshots = 8

// beginStates has s told the values of all that it reads.
func (b *Broker) beginStates(s *Subscription, fresh []*position, r resolved) {
	names := b.addStateReaders(s, fresh)
	s.mu.Lock()
	defer s.mu.Unlock()
	from, gone := ID{}, b.issued.last
	if r.kind == startAfter {
		gone = r.after // what it had by then it may have lost
		if s.gap == nil {
			from, s.bare = r.after, b.issued.last // of patches, it may not have the base
		}
	}
	s.snapshotAt = b.issued.last
	b.snapshot(s, names, nil, from, gone)
	s.opening = len(s.snapshots) > 0 && from.IsZero()
}

// joinStates has s told the values of what it joins. The changes of what it
// read before that it has not come to are told as values, too: so all that it
// reads is up to date by the snapshots, and leaving one name takes nothing from
// another.
func (b *Broker) joinStates(s *Subscription, fresh []*position, r resolved) {
	names := b.addStateReaders(s, fresh)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.snapshots) >= maxSnapshots {
		b.snapshotAgain(s)
		return
	}
	others := slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return slices.Contains(names, name) })
	if s.hasChanges() && !b.catchUp(s, others) {
		return // all is told
	}
	gone := b.issued.last
	if r.kind == startAfter {
		gone = r.after
	}
	s.snapshotAt = b.issued.last
	b.snapshot(s, names, others, ID{}, gone)
}

// holdStates makes s a reader of the changes of what it begins to read, and
// returns the names of that.
func (b *Broker) addStateReaders(s *Subscription, fresh []*position) (names []string) {
	for _, p := range fresh {
		if channel.IsBeneath(p.feed.name) {
			continue
		}
		names = append(names, p.feed.name)
		if p.feed.state != nil && !s.has(p.feed.state) {
			b.addStateReader(s, p.feed.state)
		}
	}
	return names
}

// hasChanges reports whether there are changes that s has not come to, or has
// missed. Subscription.mu is held.
func (s *Subscription) hasChanges() bool {
	return slices.ContainsFunc(s.positions, func(p *position) bool {
		if p.feed.of == nil {
			return false
		}
		if !p.settle() {
			return true
		}
		_, more := p.place.entry()
		return more
	})
}

// interrupted announces a gap, after which all values are told again.
// Subscription.mu is held.
func (b *Broker) announceGap(s *Subscription) {
	s.gap = b.newGap(ReasonTrimmed, s.positions)
	b.snapshotAgain(s)
}

// snapshotAgain has s told all values that it reads, after a gap. Subscription.mu
// is held.
func (b *Broker) snapshotAgain(s *Subscription) {
	b.skipChanges(s)
	s.snapshots = nil
	b.snapshot(s, s.names, nil, ID{}, s.cursor)
	s.opening = s.opening && len(s.snapshots) > 0
}

// catchUp has s told the newest values of names instead of the changes that it
// has not come to. It is false where that cannot be known any more, and is a
// gap. Subscription.mu is held.
//
// It is about all of its names at once. Where two take in the same channel, a
// snapshot for one of them that left it to the other's changes would be worth
// nothing as soon as these are missed, or not read any more.
func (b *Broker) catchUp(s *Subscription, names []string) bool {
	since := latest(s.cursor, s.snapshotAt)
	if s.gap == nil && b.forgotAfter(since, slices.ContainsFunc(names, channel.IsPattern)) {
		b.announceGap(s)
		return false
	}
	b.skipChanges(s)
	b.snapshot(s, names, nil, since, since)
	return true
}

// forgotAfter reports whether a channel may have lost its value after id and
// nobody knows which; of single names it is known longer than of patterns.
func (b *Broker) forgotAfter(id ID, patterns bool) bool {
	return patterns && b.states.gone.rest.After(id) || b.states.forgot.After(id)
}

// toEnd moves s past all changes that there are: they are told by a snapshot.
// Subscription.mu is held.
func (b *Broker) skipChanges(s *Subscription) {
	for _, p := range s.positions {
		if p.feed.of != nil {
			p.chain, p.place, p.from = p.feed.chain.Load(), p.feed.end(), b.issued.last
		}
	}
	s.snapshotAt = b.issued.last
}

// snapshot plans what s is told of names: values of versions above from, and that
// there is none where one was lost above gone. Channels that come by one of
// others are left out. Subscription.mu is held.
func (b *Broker) snapshot(s *Subscription, names, others []string, from, gone ID) {
	t := &b.states
	w := stateSnapshot{from: from, to: b.issued.last}
	if t.loaded.After(w.to) {
		// What is told may be ahead of the changes that come.
		w.to, s.bare = t.loaded, latest(s.bare, t.loaded)
	}
	for _, name := range others {
		p, _ := channel.ParsePattern(name) // it is read
		w.told = append(w.told, p)
	}
	var single []channel.Pattern
	for _, name := range names {
		p, _ := channel.ParsePattern(name)
		switch {
		case channel.IsPattern(name):
			w.patterns = append(w.patterns, p)
			continue
		case w.isTold(name):
			continue
		case t.cell(name) != nil:
			w.names = append(w.names, name)
		default:
			if id := t.gone.of(name); id.After(gone) {
				w.gone = append(w.gone, goneState{name, id})
			}
		}
		single = append(single, p)
	}
	if len(w.patterns) > 0 {
		w.told = append(w.told, single...)
		for name, id := range t.gone.byName {
			if id.After(gone) && t.cell(name) == nil {
				w.removed = append(w.removed, goneState{name, id})
			}
		}
		w.slots = w.skip(b)
	}
	if !w.done() {
		walk := w // most are done at once, and leave nothing behind
		s.snapshots = append(s.snapshots, &walk)
	}
}

// step is how many names one Read compares with the patterns of w: fewer where
// there are many.
func (w *stateSnapshot) step() int {
	return max(snapshotStep/max(len(w.patterns)+len(w.told), 1), 1)
}

func (w *stateSnapshot) matches(name string) bool {
	return slices.ContainsFunc(w.patterns, func(p channel.Pattern) bool { return p.Match(name) }) && !w.isTold(name)
}

func (w *stateSnapshot) isTold(name string) bool {
	return slices.ContainsFunc(w.told, func(p channel.Pattern) bool { return p.Match(name) })
}

// skip moves to the next slot that the patterns take in, as far as it looks;
// false if there is none left.
func (w *stateSnapshot) skip(b *Broker) bool {
	slots := b.states.slots
	for end := min(w.slot+w.step(), len(slots)); w.slot < end; w.slot++ {
		if c := slots[w.slot]; c != nil && w.matches(c.name) {
			return true
		}
	}
	return w.slot < len(slots)
}
