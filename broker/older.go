package broker

import (
	"strings"
	"time"
)

// A log that has retained much gives the newest part first, and what is older while the
// broker serves already: see Origin.Older. Histories grow at both ends then:
//
//	retained, not read ─────▶│ floor         Origin.ID
//	                         │ prepended ────▶│ appended ──▶
//
// Whoever needs what is below the floor waits (older_wait.go). A history takes what is
// older only as long as it has lost nothing that comes after: there are no holes.

// older is how far what the log has retained is here. Broker.mu guards it.
type older struct {
	floor   ID                  // what is retained up to it is still to come; zero if nothing is
	sealed  map[string]struct{} // names that have no feed, and to which nothing older belongs
	full    bool                // what is older makes no channels any more
	waiting waitHeap
}

const (
	// maxSealed bounds the names that are known to take nothing older. With more, what is
	// older makes no channels any more.
	maxSealed = 1 << 16
	// olderStep is how many names get what is older while publishing waits.
	olderStep = 256
)

// reached says that all above floor is here; zero is all.
func (o *older) reached(floor ID) {
	if o.floor = floor; floor.IsZero() {
		o.sealed, o.full = nil, false
	}
	o.waiting.release(floor)
}

// seal says that nothing older belongs to a name that has no feed.
func (o *older) seal(name string) {
	switch {
	case o.floor.IsZero() || o.full:
	case len(o.sealed) == maxSealed:
		o.full = true
	default:
		if o.sealed == nil {
			o.sealed = map[string]struct{}{}
		}
		o.sealed[strings.Clone(name)] = struct{}{} // it may be a part of a request
	}
}

// unseal reports whether a name is sealed that gets a feed, which is then.
func (o *older) unseal(name string) bool {
	_, sealed := o.sealed[name]
	delete(o.sealed, name)
	return sealed
}

// sealName is seal for a name that may have a feed.
func (b *Broker) sealName(name string) {
	if f := b.feeds[name]; f != nil {
		f.sealed = true
		return
	}
	b.older.seal(name)
}

// sealRemoved notes of a feed, which is to be removed, that it had something.
func (b *Broker) sealRemoved(f *feed) {
	if f.sealed || f.count() > 0 || !f.unbroken() {
		b.older.seal(f.name)
	}
}

// takesOlder reports whether what is older than all that f has belongs to it.
func (f *feed) takesOlder() bool { return !f.sealed && f.unbroken() }

// Complete reports whether all is here that the log had retained when it was opened.
func (b *Broker) Complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.older.floor.IsZero()
}

// Older implements Follower. Events are encoded without a lock, and only those that have
// room.
func (f *follower) Older(entries []Entry, after ID) {
	b := f.b
	names := b.byName(entries)
	b.eachOlder(names, b.wantOlder)
	var buf encodeBuffer
	for _, o := range names {
		o.encode(&buf)
	}
	b.eachOlder(names, b.putOlder)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.older.reached(after); after.IsZero() {
		close(f.whole)
	}
}

// olderEvents are the events of a name, the newest first.
type olderEvents struct {
	name   string
	events []*Entry
	purged bool // what is older still was removed
	gone   ID   // the newest that was removed

	want  int // how many of them are wanted
	limit int // of the size of a segment
	parts []olderPart
}

// olderPart is a segment with some of them, the newest in parts first.
type olderPart struct {
	seg    *segment
	events []*Entry
}

// byName puts events together by their names, the one that has the newest first.
func (b *Broker) byName(entries []Entry) (names []*olderEvents) {
	known := map[string]*olderEvents{}
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		event := e.Kind == KindEvent || e.Kind == KindClose && e.Close != nil && e.Close.Event
		switch {
		case e.Version > EntryVersion:
			b.skipped.Add(1)
			continue
		case !event && e.Kind != KindPurge:
			continue
		}
		o := known[e.Channel]
		if o == nil {
			o = &olderEvents{name: e.Channel}
			known[e.Channel] = o
			names = append(names, o)
		}
		switch {
		case event && o.purged:
			o.gone = latest(o.gone, e.ID)
		case event:
			o.events = append(o.events, e)
		default:
			o.purged = true
		}
	}
	return names
}

// eachOlder calls do for names with Broker.mu held, which is free in between.
func (b *Broker) eachOlder(names []*olderEvents, do func(o *olderEvents, now uint64)) {
	now := b.now()
	for len(names) > 0 {
		n := min(olderStep, len(names))
		b.mu.Lock()
		for _, o := range names[:n] {
			do(o, now)
		}
		b.wake()
		b.mu.Unlock()
		names = names[n:]
	}
}

// wantOlder finds how many events of a name its history has room for, by number and age.
func (b *Broker) wantOlder(o *olderEvents, now uint64) {
	f := b.feeds[o.name]
	var policy Policy
	room := 0
	switch {
	case f == nil:
		if _, sealed := b.older.sealed[o.name]; sealed || b.older.full {
			return
		}
		policy = b.policyOf(o.name)
		room = policy.Events
	case f.takesOlder():
		policy = f.policy
		room = policy.Events - f.count()
	}
	oldest := uint64(0)
	if age := uint64(policy.Age / time.Millisecond); age > 0 && age <= now {
		oldest = now - age + 1
	}
	for o.want < min(room, len(o.events)) && o.events[o.want].ID.Ms >= oldest {
		o.want++
	}
	o.limit = min(max(policy.Bytes/8, minSegment), maxSegment)
}

// encodeBuffer is memory that is used again.
type encodeBuffer struct {
	blocks []byte
	ends   []int
	own    []bool
}

// encode makes the segments for those that are wanted.
func (o *olderEvents) encode(buf *encodeBuffer) {
	for rest := o.events[:o.want]; len(rest) > 0; {
		buf.blocks, buf.ends, buf.own = buf.blocks[:0], buf.ends[:0], buf.own[:0]
		for _, e := range rest {
			block, own := appendEvent(buf.blocks, e)
			if len(buf.ends) > 0 && len(block) > o.limit {
				break
			}
			buf.blocks, buf.ends, buf.own = block, append(buf.ends, len(block)), append(buf.own, own)
		}
		n := len(buf.ends)
		o.parts = append(o.parts, olderPart{buf.segment(rest[:n]), rest[:n]})
		rest = rest[n:]
	}
}

// segment makes a segment of what is in the buffer, which is as large as that.
func (buf *encodeBuffer) segment(events []*Entry) *segment {
	n := len(events)
	s := &segment{next: &link{}, buf: make([]byte, len(buf.blocks)), index: make([]entry, n)}
	end := 0
	for i := n - 1; i >= 0; i-- {
		begin := 0
		if i > 0 {
			begin = buf.ends[i-1]
		}
		end += copy(s.buf[end:], buf.blocks[begin:buf.ends[i]])
		s.index[n-1-i] = entry{id: events[i].ID, end: uint32(end), own: buf.own[i]}
	}
	s.n.Store(uint32(n))
	return s
}

// putOlder puts the events of a name before those that its history has. What has no room
// is lost.
func (b *Broker) putOlder(o *olderEvents, now uint64) {
	f := b.feeds[o.name]
	if f == nil {
		f = b.channelForOlder(o)
	}
	put := 0
	if f != nil {
		for _, part := range o.parts {
			if !b.prepend(f, &part) {
				break
			}
			put += len(part.events)
		}
	}
	lost := o.gone
	if put < len(o.events) {
		lost = o.events[put].ID
	}
	if f != nil {
		f.lose(lost)
	} else if !lost.IsZero() {
		b.lossMarks.raiseOlder(o.name, lost)
	}
	if put < len(o.events) || o.purged {
		b.sealName(o.name)
	}
	if f != nil {
		f.expire(now)
		b.release(f, now)
	}
}

// channelForOlder makes the channel of events that are older than all that was used since;
// nil if there is no room, because nothing newer yields to it.
func (b *Broker) channelForOlder(o *olderEvents) *feed {
	if _, sealed := b.older.sealed[o.name]; sealed || b.older.full || len(o.parts) == 0 {
		return nil
	}
	owner := o.events[0].Owner
	if b.held[inChannels] >= b.cfg.MaxChannels {
		b.older.full = true
		return nil
	}
	if b.overShare(b.owners.byID[owner], inChannels) {
		return nil
	}
	f := b.addFeed(o.name, inChannels, owner)
	b.idle.pushFront(f)
	if f.owner != nil {
		f.owner.idle.pushFront(f)
	}
	b.setFull()
	b.reach(f)
	return f
}

// prepend puts a segment before all that f has, if f and the broker have room for it.
func (b *Broker) prepend(f *feed, part *olderPart) bool {
	if !f.takesOlder() {
		return false
	}
	seg := part.seg
	for i, e := range part.events {
		m := f.meta
		if e.Except != "" || e.Filter != nil {
			m = b.metaOf(f, e)
			seg.special.Store(true)
			seg.extra += m.charge()
		}
		seg.index[len(part.events)-1-i].meta = m
	}
	size := seg.charge()
	if f.size+size > f.policy.Bytes {
		return false
	}
	for b.bytes+size > b.cfg.MaxBytes {
		other := b.yieldBytes(f)
		if other == nil || other == f {
			return false
		}
		b.dropOldest(other)
	}
	if f.table == inNames {
		b.publishedTo(f, part.events[0].Owner)
	}
	if f.size == 0 { // its readers wait for an entry, and have to find the place before it
		b.empty(f)
	}
	f.prependSegment(seg)
	b.charge(f)
	return true
}
