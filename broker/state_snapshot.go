package broker

import (
	"slices"

	"github.com/evstream/caddy-evstream/channel"
)

// Snapshots: a reader gets the newest values of its channels when it begins, after a
// gap, and when it has missed changes. They are whole values, without ids.

// stateSnapshot is what is left of a snapshot that a subscription reads. It does not
// hold values, but where it goes on: the values are those of the time of the Read.
//
// Subscription.mu guards it, and Broker.mu, too, while it is read.
type stateSnapshot struct {
	names    []string          // channels that are still to come
	patterns []channel.Pattern // the channels of these are to come
	told     []channel.Pattern // but not the channels of these: they come by another name
	slots    bool              // there may be more channels of patterns in states.slots
	slot     int               // the index in it to go on at
	gone     []goneState       // removals that are to come
	removed  []goneState       // removals that are to come if patterns select their channels
	// Versions above from are in the snapshot, up to to: those above come as
	// changes.
	from, to ID
	// missed says that some value was already above to. The reader does not have
	// the base of patches to versions after it.
	missed bool
	// left says that some of the names may not be read any more.
	left bool
}

// values is what a subscription has to be told of values, and what it may lack of them.
type values struct {
	snapshots []*stateSnapshot // that are to be told, before anything else
	told      ID               // changes up to it are, or were, in snapshots
	opening   bool             // the snapshots are those that the subscription begins with
	bare      ID               // the reader may not have the versions up to this one: patches of them are no use
}

func (v *values) pending() bool { return v != nil && len(v.snapshots) > 0 }

// lacks is up to where the reader may not have the versions of values.
func (v *values) lacks() ID {
	if v == nil {
		return ID{}
	}
	return v.bare
}

// toldTo is up to where changes are, or were, in snapshots.
func (v *values) toldTo() ID {
	if v == nil {
		return ID{}
	}
	return v.told
}

// ownValues are the values of s, which are made if there are none. Subscription.mu is held.
func (s *Subscription) ownValues() *values {
	if s.values == nil {
		s.values = new(values)
	}
	return s.values
}

// mayLack notes that the reader may not have the versions of values up to id.
// Subscription.mu is held.
func (s *Subscription) mayLack(id ID) {
	v := s.ownValues()
	v.bare = latest(v.bare, id)
}

// noteSnapshot notes that changes up to id are in snapshots: for most readers that is the
// cursor. Subscription.mu is held.
func (s *Subscription) noteSnapshot(id ID) {
	if s.values != nil || id.After(s.cursor) {
		s.ownValues().told = id
	}
}

// goneState is a channel that lost its value.
type goneState struct {
	name string
	id   ID
}

// Bounds of one Read: the names that it compares with patterns, and the values that
// it fetches.
const (
	snapshotStep   = 1024
	snapshotValues = 64
)

// maxSnapshots bounds the snapshots of a subscription that joins again and again.
const maxSnapshots = 8

// beginStates adds the snapshot that a subscription begins with.
func (b *Broker) beginStates(s *Subscription, fresh []*position, r resolved) {
	names := b.addStateReaders(s, fresh)
	s.mu.Lock()
	defer s.mu.Unlock()
	from, gone := ID{}, b.issued.last
	if r.kind == startAfter {
		gone = r.after // it may have values that were removed since
		if s.gap == nil {
			from = r.after
			s.mayLack(b.issued.last) // the bases of patches
		}
	}
	s.noteSnapshot(b.issued.last)
	b.snapshot(s, names, nil, from, gone)
	if s.values.pending() {
		s.values.opening = from.IsZero()
	}
}

// joinStates adds a snapshot of the names that a subscription joins. Pending changes
// of its other names become a snapshot, too. So all that it reads is up to date after
// the snapshots, and leaving one name does not take a value from another.
func (b *Broker) joinStates(s *Subscription, fresh []*position, r resolved) {
	names := b.addStateReaders(s, fresh)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values != nil && len(s.values.snapshots) >= maxSnapshots {
		b.snapshotAgain(s)
		return
	}
	others := slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return slices.Contains(names, name) })
	if s.hasChanges() && !b.catchUp(s, others) {
		return // the snapshot is of all names
	}
	gone := b.issued.last
	if r.kind == startAfter {
		gone = r.after
	}
	s.noteSnapshot(b.issued.last)
	b.snapshot(s, names, others, ID{}, gone)
}

// addStateReaders has s read the changes of the names of fresh, and returns these
// names.
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

// hasChanges reports whether there are changes that s has not read, or has missed.
// Subscription.mu is held.
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

// announceGap gives s a gap, and a snapshot of all values after it. Subscription.mu is
// held.
func (b *Broker) announceGap(s *Subscription) {
	s.gap = b.newGap(ReasonTrimmed, s.positions)
	b.snapshotAgain(s)
}

// snapshotAgain replaces the snapshots of s by one of all that it reads, after a gap.
// Subscription.mu is held.
func (b *Broker) snapshotAgain(s *Subscription) {
	b.skipChanges(s)
	if s.values != nil {
		s.values.snapshots = nil
	}
	b.snapshot(s, s.names, nil, ID{}, s.cursor)
	if s.values != nil && !s.values.pending() {
		s.values.opening = false
	}
}

// catchUp replaces the pending changes of s by a snapshot of names. It is false if it
// is not known any more which values were removed: then s gets a gap, and a snapshot
// of all that it reads. Subscription.mu is held.
//
// All pending changes are replaced at once. Of two names that select the same channel,
// a snapshot for one that left the channel to the other's changes would be incomplete
// when these are missed, or the other name is left.
func (b *Broker) catchUp(s *Subscription, names []string) bool {
	since := latest(s.cursor, s.values.toldTo())
	if s.gap == nil && slices.ContainsFunc(names, func(name string) bool { return b.forgotAfter(since, name) }) {
		b.announceGap(s)
		return false
	}
	b.skipChanges(s)
	b.snapshot(s, names, nil, since, since)
	return true
}

// forgotAfter reports whether values may have been removed after id of which it is not
// known any more whose they were. Single names are known longer than the names that
// patterns select.
func (b *Broker) forgotAfter(id ID, name string) bool {
	if b.states.forgot.After(id) {
		return true
	}
	if !channel.IsPattern(name) {
		return false
	}
	p, err := channel.ParsePattern(name)
	return err != nil || b.states.gone.forgotten(&p).After(id)
}

// skipChanges moves s to the end of all changes, which a snapshot replaces.
// Subscription.mu is held.
func (b *Broker) skipChanges(s *Subscription) {
	for _, p := range s.positions {
		if p.feed.of != nil {
			p.chain, p.place, p.from = p.feed.chain.Load(), p.feed.end(), b.issued.last
		}
	}
	s.noteSnapshot(b.issued.last)
}

// snapshot adds a snapshot of names to s: of values with versions above from, and of
// removals above gone. Channels that others select are left out. Subscription.mu is
// held.
func (b *Broker) snapshot(s *Subscription, names, others []string, from, gone ID) {
	t := &b.states
	w := stateSnapshot{from: from, to: b.issued.last}
	if t.loaded.After(w.to) {
		// The values may be ahead of the changes that come.
		w.to = t.loaded
		s.mayLack(t.loaded)
	}
	for _, name := range others {
		p, _ := channel.ParsePattern(name) // it was checked when it was added
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
		rest := w // a copy: most snapshots are empty, and must not be allocated
		v := s.ownValues()
		v.snapshots = append(v.snapshots, &rest)
	}
}

// step is how many names one Read compares with patterns: fewer if there are many
// patterns.
func (w *stateSnapshot) step() int {
	return max(snapshotStep/max(len(w.patterns)+len(w.told), 1), 1)
}

func (w *stateSnapshot) matches(name string) bool {
	return slices.ContainsFunc(w.patterns, func(p channel.Pattern) bool { return p.Match(name) }) && !w.isTold(name)
}

func (w *stateSnapshot) isTold(name string) bool {
	return slices.ContainsFunc(w.told, func(p channel.Pattern) bool { return p.Match(name) })
}

// skip moves slot to the next channel that the patterns select, but no further than
// step; false if there is none left.
func (w *stateSnapshot) skip(b *Broker) bool {
	slots := b.states.slots
	for end := min(w.slot+w.step(), len(slots)); w.slot < end; w.slot++ {
		if c := slots[w.slot]; c != nil && w.matches(c.name) {
			return true
		}
	}
	return w.slot < len(slots)
}
