package broker

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// The model's readers: how they begin, join, leave, are cut and resume.

func (m *model) names() (names []string) {
	for range 1 + m.rng.IntN(3) {
		name := one(m, modelChannels)
		if m.rng.IntN(3) == 0 {
			name = one(m, modelPatterns)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (m *model) subscribe() {
	if len(m.readers) > 12 {
		m.drop(m.pick())
	}
	r := &modelReader{names: m.names()}
	if m.rng.IntN(4) == 0 {
		r.types = []string{"goal"}
	}
	m.start(r, m.anyStart())
}

// anyStart is somewhere to begin, good cursors and bad ones.
func (m *model) anyStart() Start {
	switch n := m.rng.IntN(11); {
	case n < 2 || len(m.log) == 0:
		return Start{}
	case n < 5:
		return Start{LastEventID: m.log[len(m.log)-1-m.rng.IntN(min(len(m.log), 60))].id.String()}
	case n < 6:
		return Start{LastEventID: m.foreign.String()}
	case n < 7:
		return Start{LastEventID: "nonsense"}
	case n < 8:
		return Start{Earliest: true}
	case n < 9:
		return Start{Last: 1 + m.rng.IntN(5)}
	case n < 10:
		return Start{LastEventID: m.anyOwn()}
	}
	return Start{Since: time.Now().Add(m.skew - time.Duration(m.rng.IntN(5000))*time.Millisecond)}
}

// newOwn is an id of a publisher: there are few, so that some are used again.
func (m *model) newOwn() string { return "own" + strconv.Itoa(m.rng.IntN(100)) }

// anyOwn is an id that a publisher gave, most likely not long ago.
func (m *model) anyOwn() string {
	for _, e := range slices.Backward(m.log) {
		if e.own != "" && m.rng.IntN(4) == 0 {
			return e.own
		}
	}
	return m.newOwn()
}

// findOwn is the first event with a publisher's id in the histories of names.
func (m *model) findOwn(own string, names []string) (at ID, ok bool) {
	if own == "" {
		return ID{}, false
	}
	held := map[ID]bool{}
	for _, name := range names {
		m.inMemory(name, func(e *entry) { held[e.id] = true })
	}
	for i := range m.log {
		if e := &m.log[i]; e.own == own && held[e.id] {
			return e.id, true
		}
	}
	return ID{}, false
}

// start subscribes r and works out what it is owed.
func (m *model) start(r *modelReader, start Start) {
	m.next++
	r.id, r.decode = "r"+strconv.Itoa(m.next), m.rng.IntN(2) == 0
	r.ends = map[string]ID{}
	r.owed, r.late, r.had, r.maybe = map[int]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}
	was, n := m.standing(), m.met.interrupted
	sub, err := m.b.Subscribe(SubscribeOptions{ID: r.id, Channels: r.names, Start: start, Types: r.types, Audience: r.audience()})
	if r.seen = len(m.log); n != m.met.interrupted {
		was = m.stood
	}
	if m.refused("subscribe", err, was, len(r.names) > 1) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	at, found := m.position(start, r.names)
	if found && sub.Start() != at {
		m.t.Errorf("%s %v %+v began at %s, want %s", r.id, r.names, start, sub.Start(), at)
	}
	if found && start.LastEventID != at.String() {
		m.met.own++
	}
	if r.view == nil {
		r.view = map[string]modelState{}
		if found {
			m.resume(r, at)
		}
	}
	r.sub, r.cursor, r.calm, r.begun = sub, sub.Start(), sub.Start(), start
	r.knows = slices.Clone(r.names)
	m.readers = append(m.readers, r)
	m.owe(r, r.names, start)
	r.look(m)
}

// position is the one that a client which sends a last event id has come to.
func (m *model) position(start Start, names []string) (at ID, ok bool) {
	if id, ok := ParseID(start.LastEventID); ok {
		return id, id != m.foreign
	}
	return m.findOwn(start.LastEventID, names)
}

// resume gives the client r the values of a position.
func (m *model) resume(r *modelReader, at ID) {
	r.since = at
	for _, name := range modelChannels {
		if value := m.stateAt(name, at); r.reads(name) && value != "" {
			r.view[name] = modelState{value: value}
		}
	}
}

// owe works out what r is owed of names from before now.
func (m *model) owe(r *modelReader, names []string, start Start) {
	id, ok := m.position(start, names)
	switch {
	case ok:
		for i := range m.log {
			if m.log[i].id.After(id) && r.wants(&m.log[i], names) {
				m.owed(r, i)
			}
		}
		r.gap = m.hiddenLoss(r, names, id)
	case start.LastEventID != "":
		r.gap = ReasonUnknown
		if start.LastEventID == m.foreign.String() {
			r.gap = ReasonRestarted
		}
		m.oweKept(r, names, 0)
	case !start.Since.IsZero():
		for i := range m.log {
			if m.log[i].id.Ms >= uint64(start.Since.UnixMilli()) && r.wants(&m.log[i], names) {
				m.owed(r, i)
			}
		}
		r.gap = m.hiddenLoss(r, names, ID{uint64(start.Since.UnixMilli()) - 1, ^uint64(0)})
	case start.Earliest:
		m.oweKept(r, names, 0)
	case start.Last > 0:
		m.oweKept(r, names, start.Last)
	}
}

// hiddenLoss is "?" where something that r does not want, or gets by another name, or the
// loss of a channel that was dropped, may be announced. Where a pattern did not reach back
// to after it may be what its channels have lost and it has still: it is not known what
// else they have lost before.
func (m *model) hiddenLoss(r *modelReader, names []string, after ID) string {
	for _, name := range names {
		kept, look := m.kept, m.looked[name]
		if m.ample && channel.IsPattern(name) && look.feed == m.b.patternOf(name) && !latest(look.complete, look.doubt).After(after) {
			kept = m.held
		}
		has := kept(name)
		for i := range m.log {
			if e := &m.log[i]; e.id.After(after) && !has[e.id] && naiveMatch(name, e.channel) {
				return "?"
			}
		}
	}
	for _, name := range names {
		if !channel.IsPattern(name) && m.b.floorOf(name).After(after) {
			m.excused++
			return "?"
		}
	}
	return ""
}

// oweKept owes r what is kept, the newest n of each name, or all. A name
// beneath is one source for all of a reader's names: it begins where the one
// that reaches furthest back begins, and does not begin again at a join.
func (m *model) oweKept(r *modelReader, names []string, n int) {
	oldest := map[string]ID{} // of names beneath
	for _, name := range names {
		kept := m.held(name)
		var list []int
		for i := range m.log {
			e := &m.log[i]
			again := r.readBeneath(e.channel) && !m.leftOut(r, i)
			if kept[e.id] && naiveMatch(name, e.channel) && r.wants(e, names) && !again {
				list = append(list, i)
			}
		}
		if n > 0 {
			list = list[max(len(list)-n, 0):]
		}
		for _, i := range list {
			e := &m.log[i]
			if r.readBeneath(e.channel) {
				r.maybe[i] = true
				continue
			}
			m.owed(r, i)
			if old, ok := oldest[e.channel]; !channel.IsPattern(name) && channel.IsBeneath(e.channel) && (!ok || old.After(e.id)) {
				oldest[e.channel] = e.id
			}
		}
		if channel.IsPattern(name) && !m.ample {
			m.mayRecover(r, name)
		}
	}
	for ch, id := range oldest {
		kept := m.kept(ch)
		for i := range m.log {
			if e := &m.log[i]; e.channel == ch && kept[e.id] && !id.After(e.id) && r.wants(e, names) {
				m.owed(r, i)
			}
		}
	}
}

// mayRecover notes what r may get though the pattern, where memory is tight, has lost it:
// when it is refilled, from what its channels keep above the first entry.
func (m *model) mayRecover(r *modelReader, pattern string) {
	var first ID
	m.inMemory(pattern, func(e *entry) {
		if first.IsZero() {
			first = e.id
		}
	})
	if first.IsZero() {
		return
	}
	for i := range m.log {
		if e := &m.log[i]; e.id.After(first) && !r.owed[i] && !r.had[i] && !m.live[e.id] && r.wants(e, []string{pattern}) {
			r.maybe[i] = true
		}
	}
}

func (m *model) owed(r *modelReader, i int) {
	if !r.had[i] && !r.maybe[i] {
		r.owed[i] = true
	}
}

// readBeneath reports whether r read the name beneath before it joined name.
func (r *modelReader) readBeneath(name string) bool {
	return channel.IsBeneath(name) && slices.ContainsFunc(r.before, func(other string) bool { return naiveMatch(other, name) })
}

// leftOut reports whether r reads the name beneath of an event by channels alone, and their
// source for it has gone before it brought the event: a pattern may have it still.
func (m *model) leftOut(r *modelReader, i int) bool {
	e := &m.log[i]
	return !r.had[i] && !m.b.hasFeed(e.channel) && !slices.ContainsFunc(r.before, func(name string) bool {
		return channel.IsPattern(name) && naiveMatch(name, e.channel)
	})
}

// join is done at any point, but mostly by a reader that has read everything.
func (m *model) join(r *modelReader) {
	if m.rng.IntN(3) > 0 {
		m.read(r, true)
	}
	name := m.names()[0]
	if slices.Contains(r.names, name) || len(r.names) > 6 {
		return
	}
	if len(r.walksOf()) > 0 && (r.hasLeft || len(r.walksOf()) >= maxSnapshots) {
		return // what it would be told twice
	}
	start := one(m, []Start{{}, {Earliest: true}, {Last: 3}})
	here, was, n := r.sub.Cursor(), m.standing(), m.met.interrupted
	m.busy = r
	err := r.sub.Join(name, start)
	if n != m.met.interrupted {
		was = m.stood
	}
	if m.refused("join", err, was, false) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	r.before, r.names = r.names, append(slices.Clone(r.names), name)
	r.joined = append(r.joined, name)
	owed := maps.Clone(r.owed)
	if slices.ContainsFunc(r.before, func(other string) bool { return channel.Overlap(name, other) }) {
		m.oweAfter(r, name, here)
	} else {
		if overlapping([]string{name}, r.before) {
			m.t.Errorf("%s is not seen to overlap %v", name, r.before)
		}
		r.level = false
		m.owe(r, []string{name}, start)
		// What came from beneath a name above both, and is not kept for the
		// others any more, may come.
		for i := range m.log {
			if e := &m.log[i]; channel.IsBeneath(e.channel) && e.id.After(here) && r.wants(e, []string{name}) && !r.owed[i] && !r.had[i] {
				r.maybe[i] = true
			}
		}
	}
	r.before = nil
	for i := range r.owed {
		r.late[i] = r.late[i] || !owed[i]
	}
	switch m.rng.IntN(4) {
	case 0, 1:
		m.read(r, true)
	case 2:
		m.leave(r)
	}
}

// oweAfter owes r what came on a name that it joins after its cursor. Where that
// is kept nowhere by now, it may come by another name, or not.
func (m *model) oweAfter(r *modelReader, name string, here ID) {
	kept := m.kept(name)
	for i := range m.log {
		e := &m.log[i]
		switch {
		case !e.id.After(here) || !r.wants(e, []string{name}) || r.owed[i] || r.had[i]:
		case kept[e.id] && !r.readBeneath(e.channel):
			m.owed(r, i)
		default:
			r.maybe[i] = true
		}
	}
}

// leave is done at any point, once the reader has come from where each of its
// names began to where all of them are.
func (m *model) leave(r *modelReader) {
	if len(r.names) < 2 {
		return
	}
	if !r.level || m.rng.IntN(2) == 0 {
		m.read(r, true)
	}
	name := one(m, r.names)
	if !r.sub.Leave(name) {
		m.t.Errorf("%s did not read %s", r.id, name)
	}
	r.names = slices.DeleteFunc(slices.Clone(r.names), func(n string) bool { return n == name })
	r.forgetEnds()
	r.hasLeft = true
	for i := range m.log { // to join it again is to read it again
		// What came from beneath a name above several is another's, too, only
		// if that was joined before it came.
		if e := &m.log[i]; r.wants(e, []string{name}) && (!r.wants(e, r.names) || channel.IsBeneath(e.channel)) {
			delete(r.owed, i)
			r.maybe[i] = true
		}
	}
	if r.gap == "" {
		r.gap = "?" // what only this name has kept of others may be lost
	}
	for ch := range r.view {
		if !r.reads(ch) {
			delete(r.view, ch)
		}
	}
}

// cut ends a connection at any point; the client resumes with its cursor, or
// with the id of a publisher: then it resumes after the first event with that id.
func (m *model) cut(r *modelReader) {
	telling := len(r.walksOf()) > 0
	m.drop(r)
	if m.rng.IntN(4) == 0 {
		return
	}
	next := &modelReader{names: r.names, types: r.types}
	if r.own != "" && m.rng.IntN(3) == 0 {
		m.start(next, Start{LastEventID: r.own})
		return
	}
	if telling && !r.sub.Opening() { // of what it joined it may not have the values
		next.names = slices.DeleteFunc(slices.Clone(r.names), func(name string) bool { return slices.Contains(r.joined, name) })
		if len(next.names) == 0 {
			return
		}
		for ch := range r.view {
			if !next.reads(ch) {
				delete(r.view, ch)
			}
		}
	}
	if r.sub.Opening() { // the client holds no cursor yet, and begins anew
		m.start(next, r.begun)
		return
	}
	next.view, next.since = r.view, r.cursor
	for name, s := range next.view { // which it may be told again
		s.id = ID{}
		next.view[name] = s
	}
	m.start(next, Start{LastEventID: r.cursor.String()})
}

func (m *model) drop(r *modelReader) {
	r.sub.Close()
	m.readers = slices.DeleteFunc(m.readers, func(x *modelReader) bool { return x == r })
}

// changes checks the joins and leaves that a reader is told of, before what else is in
// the batch.
func (m *model) changes(r *modelReader, batch *Batch, before ID) {
	for _, c := range batch.Changes {
		i := slices.Index(r.knows, c.Channel)
		switch {
		case c.Left != (i >= 0):
			m.t.Errorf("%s knows that it reads %v, and is told of %+v", r.id, r.knows, c)
		case c.Left:
			r.knows = slices.Delete(r.knows, i, i+1)
		default:
			r.knows = append(r.knows, c.Channel)
		}
		if before.After(c.Cursor) || c.Cursor.After(r.sub.Cursor()) {
			m.t.Errorf("%s went from %s to %s, and is told of %+v", r.id, before, r.sub.Cursor(), c)
		}
		m.met.changes++
	}
}

func sameNames(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (b *Broker) hasFeed(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.feeds[name] != nil
}

// floorOf is the highest floor of the sources that name is read from.
func (b *Broker) floorOf(name string) ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	mark := b.lossMarks.of(name)
	for beneath := range channel.Reaching(name) {
		if f := b.lossMarks.of(beneath); f.After(mark) {
			mark = f
		}
	}
	return mark
}
