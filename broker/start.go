package broker

import (
	"bytes"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// resolved is a Start whose cursor has been looked up.
type resolved struct {
	kind  startKind
	after ID     // startAfter, startSince; else zero
	gap   string // the reason of a gap that all channels have; else ""
	last  int
}

type startKind uint8

const (
	startNow startKind = iota
	startAfter
	startSince
	startEarliest
	startLast
)

// resolve looks up where to begin. A publisher's id is looked for in the histories of
// positions.
func (b *Broker) resolve(start Start, positions []*position, now uint64) resolved {
	for _, p := range positions {
		p.feed.expire(now)
	}
	r := b.lookUp(start, positions)
	if r.kind != startNow {
		b.complete(positions, r)
	}
	return r
}

// complete refills the patterns whose history does not reach back to r.
func (b *Broker) complete(positions []*position, r resolved) {
	for _, p := range positions {
		if p.feed.pattern != nil && p.feed.complete.After(r.after) {
			b.refill(p.feed, r.after)
		}
	}
	b.wake() // the readers of a refilled history have to find their places again
}

func (b *Broker) lookUp(start Start, positions []*position) resolved {
	switch {
	case start.LastEventID != "":
		return b.resolveCursor(start.LastEventID, positions)
	case !start.Since.IsZero():
		ms := uint64(max(start.Since.UnixMilli(), 1))
		return resolved{kind: startSince, after: ID{ms - 1, ^uint64(0)}}
	case start.Earliest:
		return resolved{kind: startEarliest}
	case start.Last > 0:
		return resolved{kind: startLast, last: start.Last}
	}
	return resolved{kind: startNow}
}

func (b *Broker) resolveCursor(cursor string, positions []*position) resolved {
	if id, ok := ParseID(cursor); ok {
		gap := ""
		if b.voidFrom(id) {
			gap = ReasonDiverged
		}
		switch {
		case b.issued.has(id):
			return resolved{kind: startAfter, after: id, gap: gap}
		case id.Compare(b.issued.cut) <= 0 && id.After(b.issued.origin):
			return resolved{kind: startAfter, after: id, gap: ReasonTrimmed}
		case b.durable && !b.born.After(id) && !id.After(latest(b.missing.most, b.known)) &&
			!slices.ContainsFunc(b.void, func(s Span) bool { return s.has(id) }):
			// The entry may have been trimmed before this node read the log. There
			// is a gap if anything after it was trimmed, too. Or it was of a kind that
			// is not kept.
			return resolved{kind: startAfter, after: id, gap: gap}
		case b.durable:
			return resolved{kind: startEarliest, gap: ReasonDiverged}
		}
		return resolved{kind: startEarliest, gap: ReasonRestarted}
	}
	if !LooksLikeID(cursor) && !strings.ContainsAny(cursor, "\r\n") {
		b.complete(positions, resolved{kind: startEarliest})
		if id, ok := b.findOwn(cursor, positions); ok {
			return resolved{kind: startAfter, after: id}
		}
	}
	return resolved{kind: startEarliest, gap: ReasonUnknown}
}

// findOwn is the earliest kept event that carries the publisher's id.
func (b *Broker) findOwn(own string, positions []*position) (found ID, ok bool) {
	line := []byte("id: " + own + "\n")
	for _, p := range positions {
		for e, block := range p.feed.all() {
			if ok && !found.After(e.id) {
				break
			}
			b.looked++
			if e.own && bytes.HasPrefix(block, line) {
				found, ok = e.id, true
				break
			}
		}
	}
	return found, ok
}

// begin sets the places of a new subscription's positions, and its cursor.
func (b *Broker) begin(s *Subscription, fresh []*position, r resolved) {
	b.locate(s, fresh, r)
	s.positions = fresh
	switch r.kind {
	case startNow:
		s.cursor = b.issued.last
	case startAfter:
		s.cursor = r.after
	default:
		s.cursor = b.justBefore(fresh)
	}
	s.start = s.cursor
	s.gap = b.gapOf(fresh, r)
	began := beginning{replay: b.replayOf(s, fresh, r)}
	for _, name := range s.names {
		if b.states.cell(name) != nil {
			began.valued = append(began.valued, name)
		}
	}
	if began.replay != nil || began.valued != nil {
		s.began = &beginning{began.replay, began.valued}
	}
	b.beginStates(s, fresh, r)
}

// addBeneath has s read the feed of a name beneath that was added just now, from now
// on.
func (b *Broker) addBeneath(s *Subscription, feed *feed) {
	p := b.addReader(s, feed)
	b.locate(s, []*position{p}, resolved{kind: startNow})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.positions = append(s.positions, p)
}

// join sets the places of the positions that a Join adds. Entries up to the cursor
// are their backlog.
func (b *Broker) join(s *Subscription, fresh []*position, r resolved) {
	b.locate(s, fresh, r)
	gap, replay := b.gapOf(fresh, r), b.replayOf(s, fresh, r)
	defer b.joinStates(s, fresh, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range fresh {
		p.joined = &joined{backlog: s.cursor}
	}
	s.positions = append(s.positions, fresh...)
	name := s.names[len(s.names)-1]
	s.noteJoined(name, b.states.cell(name) != nil, replay)
	if s.gap == nil {
		s.gap = gap
	}
}

// joinHere is the join of a name that selects channels which are read already. It
// begins at the cursor, with the entries that the other names have still to deliver:
// these come once, and also if the other names are left before.
func (b *Broker) joinHere(s *Subscription, fresh []*position, now uint64) {
	here := s.Cursor()
	r := resolved{kind: startAfter, after: here}
	for _, p := range fresh {
		p.feed.expire(now)
	}
	b.complete(fresh, r)
	b.locate(s, fresh, r)
	defer b.joinStates(s, fresh, resolved{})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range fresh {
		p.joined, p.liveFrom = &joined{backlog: here}, here
		if b.lostAfter(fresh[i:i+1], here) {
			p.joined.lacks = b.issued.last
		}
	}
	s.positions = append(s.positions, fresh...)
	name := s.names[len(s.names)-1]
	s.noteJoined(name, b.states.cell(name) != nil, nil)
}

// locate sets the places of positions.
func (b *Broker) locate(s *Subscription, positions []*position, r resolved) {
	var from map[*feed]ID
	if r.kind == startLast {
		from = b.lastStarts(s, positions, r.last)
	}
	for _, p := range positions {
		feed := p.feed
		p.chain, p.liveFrom = feed.chain.Load(), b.issued.last
		switch r.kind {
		case startNow:
			p.place, p.from = feed.end(), b.issued.last
		case startAfter:
			p.place, p.from = feed.after(r.after), r.after
		case startSince:
			p.place = feed.after(r.after)
		case startLast:
			p.place = feed.after(from[feed])
		case startEarliest:
			p.place = feed.kept.settle()
		}
		if p.from.IsZero() { // what it was not promised does not come later, either
			p.from = b.issued.last
			if e, ok := p.place.entry(); ok {
				p.from = before(e.id)
			}
		}
	}
}

// maxSought bounds how many events a new subscription looks at, in all its channels,
// to find the newest ones of certain types: Broker.mu is held meanwhile.
const maxSought = 50_000

// lastStarts finds, for each feed of s, the position after which the newest n events
// of each of s's channels lie. They include events that were published beneath a
// name that reaches the channel.
func (b *Broker) lastStarts(s *Subscription, positions []*position, n int) map[*feed]ID {
	starts := map[*feed]ID{}
	for _, name := range s.names {
		var ids []ID
		serving := map[*feed]ID{} // the feeds with events of name, and how far back they were looked at
		for _, p := range servingOf(positions, name) {
			found, from := s.newestOf(p.feed, n, maxSought/len(positions))
			ids, serving[p.feed] = append(ids, found...), from
		}
		var start ID
		if len(ids) >= n {
			if len(serving) > 1 {
				slices.SortFunc(ids, func(x, y ID) int { return y.Compare(x) })
			}
			start = before(ids[n-1])
		}
		for feed, from := range serving {
			from = latest(from, start)
			if old, ok := starts[feed]; !ok || old.After(from) {
				starts[feed] = from
			}
		}
	}
	return starts
}

// servingOf are the positions that have events of a name: its own, and those of names
// beneath that reach it.
func servingOf(positions []*position, name string) (serving []*position) {
	for _, p := range positions {
		if p.feed.name == name || !channel.IsPattern(name) && channel.IsBeneath(p.feed.name) && channel.Reaches(p.feed.name, name) {
			serving = append(serving, p)
		}
	}
	return serving
}

// newestOf are the ids of the newest n kept events of f that s would get, the newest
// first. If s wants certain types, no more than sought events are looked at: those
// above from.
func (s *Subscription) newestOf(f *feed, n, sought int) (ids []ID, from ID) {
	for at := range f.backward() {
		e, _ := at.entry()
		if len(ids) == n || sought == 0 {
			return ids, e.id
		}
		if s.form.choosy() {
			sought--
		}
		s.broker.looked++
		if !e.meta.live && !s.excepted(e) && s.wantsType(at) && !s.delivered(nil, e) {
			ids = append(ids, e.id)
		}
	}
	return ids, ID{}
}

// before is the highest id below id.
func before(id ID) ID {
	if id.N > 0 {
		return ID{id.Ms, id.N - 1}
	}
	return ID{id.Ms - 1, ^uint64(0)}
}

// justBefore is the newest position before the first event of positions: the cursor
// of a client that is disconnected before it gets that event.
func (b *Broker) justBefore(positions []*position) ID {
	first, found := ID{}, false
	for _, p := range positions {
		if e, ok := p.place.entry(); ok && (!found || first.After(e.id)) {
			first, found = e.id, true
		}
	}
	if !found {
		return b.issued.last
	}
	if before, ok := b.issued.below(first); ok {
		return before
	}
	if b.durable && !first.After(b.known) {
		return before(first) // up to known all ids count as issued
	}
	return b.issued.cut
}

// gapOf is the gap of positions that begin at r; nil if they have lost nothing.
func (b *Broker) gapOf(positions []*position, r resolved) *Gap {
	reason := r.gap
	if reason == "" && (r.kind == startAfter || r.kind == startSince) && b.lostAfter(positions, r.after) {
		reason = ReasonTrimmed
	}
	if reason == "" {
		return nil
	}
	return b.newGap(reason, positions)
}

// replayOf is what is known of the history that a subscription asked for; nil if it
// asked for none.
func (b *Broker) replayOf(s *Subscription, positions []*position, r resolved) *Replay {
	if r.gap != "" {
		return nil // it has a cursor that is not known, and gets what is kept
	}
	replay := new(Replay)
	switch r.kind {
	case startEarliest:
		replay.Complete = !b.lostEventsAfter(positions, ID{})
	case startSince:
		replay.Complete = !b.lostEventsAfter(positions, r.after)
	case startLast:
		replay.Complete = !b.fewerThanLast(s, positions, r.last)
	default:
		return nil
	}
	if !replay.Complete {
		for _, p := range positions {
			if oldest, ok := p.feed.oldestKept(); ok && (replay.Oldest.IsZero() || replay.Oldest.After(oldest)) {
				replay.Oldest = oldest
			}
		}
	}
	return replay
}

// fewerThanLast reports whether one of the names of s has fewer than n events that s
// gets, and had others that have left.
func (b *Broker) fewerThanLast(s *Subscription, positions []*position, n int) bool {
	for _, name := range s.names {
		found, lost := 0, false
		for _, p := range servingOf(positions, name) {
			ids, from := s.newestOf(p.feed, n, maxSought/len(positions))
			found += len(ids)
			lost = lost || len(ids) < n && !from.IsZero() || b.lostEventsAfter([]*position{p}, ID{})
		}
		if found < n && lost {
			return true
		}
	}
	return false
}

// lostAfter reports whether an event above id has left what positions read, or it is
// not known any more which of their values were removed after id.
func (b *Broker) lostAfter(positions []*position, id ID) bool {
	return b.lostEventsAfter(positions, id) || slices.ContainsFunc(positions, func(p *position) bool {
		return b.forgotAfter(id, p.feed.name)
	})
}

// lostEventsAfter reports whether an event above id has left what positions read, or a
// name beneath that has been dropped from memory.
func (b *Broker) lostEventsAfter(positions []*position, id ID) bool {
	for _, p := range positions {
		if p.feed.trimmed.After(id) {
			return true
		}
		if p.feed.pattern == nil && !channel.IsBeneath(p.feed.name) {
			for beneath := range channel.Reaching(p.feed.name) {
				if b.feeds[beneath] == nil && b.missingOf(beneath).After(id) {
					return true
				}
			}
		}
	}
	return false
}

// newGap describes a gap of a reader of positions, and counts it.
func (b *Broker) newGap(reason string, positions []*position) *Gap {
	b.gaps.Add(1)
	g := &Gap{Reason: reason}
	for _, p := range positions {
		if oldest, ok := p.feed.oldestKept(); ok {
			if g.Oldest.IsZero() || g.Oldest.After(oldest) {
				g.Oldest = oldest
			}
			if newest := p.feed.newest(); newest.After(g.Newest) {
				g.Newest = newest
			}
		}
	}
	return g
}
