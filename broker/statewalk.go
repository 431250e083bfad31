package broker

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/evstream/caddy-evstream/sse"
)

// What a reader gets of values beside their changes: the newest of each when
// it begins, after a gap, and when it has fallen behind. It is told as the
// whole, without an id.

// stateWalk is what of that a subscription is still to be told. It does not
// hold values: the walk goes on where it was, and tells what is there by then.
//
// Guarded by Subscription.mu, and by Broker.mu while it goes on.
type stateWalk struct {
	names    []string  // channels, still to come
	patterns []Pattern // the channels of which are to come
	told     []Pattern // whose channels come by another name
	slot     int       // in states.slots: where the patterns are
	gone     []goneState
	// Versions above from are told, up to to: what is above that is a change.
	from, to ID
	// missed says that a value has moved above to: changes that lead on from
	// it are no use as patches.
	missed bool
}

// goneState is a channel that lost its value.
type goneState struct {
	name string
	id   ID
}

// What bounds one Read: the slots that it looks at, and the values that it
// takes.
const (
	walkStep   = 1024
	walkValues = 64
)

// beginStates has s told the values of what it begins to read.
func (b *Broker) beginStates(s *Subscription, fresh []*position, r resolved, joins bool) {
	var names []string
	for _, p := range fresh {
		if IsBeneath(p.src.name) {
			continue
		}
		names = append(names, p.src.name)
		if p.src.state != nil && !s.has(p.src.state) {
			b.holdState(s, p.src.state)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from, gone := ID{}, b.given.last
	if r.kind == startAfter {
		gone = r.after // what it had by then it may have lost
		if s.gap == nil && !joins {
			from, s.bare = r.after, b.given.last // of patches, it may not have the base
		}
	}
	b.walk(s, names, from, gone)
	s.opening = s.opening || !joins && len(s.walks) > 0 && from.IsZero()
}

// walkAgain has s told all values that it reads, after a gap. Subscription.mu
// is held.
func (b *Broker) walkAgain(s *Subscription) {
	for _, p := range s.positions {
		if p.src.of != nil {
			b.toEnd(p)
		}
	}
	s.walks = nil
	b.walk(s, s.names, ID{}, s.cursor)
	s.opening = s.opening && len(s.walks) > 0
}

// toEnd moves the position in a companion past what there is: it is told by a
// walk. Subscription.mu is held.
func (b *Broker) toEnd(p *position) {
	p.chain, p.place, p.from = p.src.chain.Load(), p.src.end(), b.given.last
}

// walk plans what s is told of names: values of versions above from, and that
// there is none where one was lost above gone. Subscription.mu is held.
func (b *Broker) walk(s *Subscription, names []string, from, gone ID) {
	t := &b.states
	w := &stateWalk{from: from, to: b.given.last}
	if t.loaded.After(w.to) {
		// What is told may be ahead of the changes that come.
		w.to, s.bare = t.loaded, latest(s.bare, t.loaded)
	}
	for _, name := range s.names {
		p, _ := ParsePattern(name) // it is read
		switch {
		case !slices.Contains(names, name):
			w.told = append(w.told, p)
		case IsPattern(name):
			w.patterns = append(w.patterns, p)
		}
	}
	for _, name := range names {
		if IsPattern(name) || w.isTold(name) {
			continue
		}
		if t.cell(name) != nil {
			w.names = append(w.names, name)
		} else if id := t.gone.of(name); id.After(gone) {
			w.gone = append(w.gone, goneState{name, id})
		}
	}
	if len(w.patterns) > 0 {
		for _, name := range names {
			if p, _ := ParsePattern(name); !IsPattern(name) {
				w.told = append(w.told, p)
			}
		}
		for name, id := range t.gone.byName {
			if id.After(gone) && t.cell(name) == nil && w.matches(name) {
				w.gone = append(w.gone, goneState{name, id})
			}
		}
		if !w.skip(b) {
			w.patterns = nil
		}
	}
	if len(w.names)+len(w.patterns)+len(w.gone) > 0 {
		s.walks = append(s.walks, w)
	}
}

func (w *stateWalk) matches(name string) bool {
	return slices.ContainsFunc(w.patterns, func(p Pattern) bool { return p.Match(name) }) && !w.isTold(name)
}

func (w *stateWalk) isTold(name string) bool {
	return slices.ContainsFunc(w.told, func(p Pattern) bool { return p.Match(name) })
}

// skip moves to the next slot that the patterns take in, as far as it looks;
// false if there is none left.
func (w *stateWalk) skip(b *Broker) bool {
	slots := b.states.slots
	for end := min(w.slot+walkStep, len(slots)); w.slot < end; w.slot++ {
		if c := slots[w.slot]; c != nil && w.matches(c.name) {
			return true
		}
	}
	return w.slot < len(slots)
}

// Opening reports whether the reader is still to be told values that are older
// than its Start: until it has them, that is no cursor to come back with.
func (s *Subscription) Opening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opening
}

// Telling reports whether the next Read tells values, of which there may be
// more than one tells: until all are told, the cursor stays where it is.
func (s *Subscription) Telling() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.walks) > 0
}

// told is a value that a walk has come to.
type told struct {
	name    string
	version *stateVersion
}

// tellStates fetches the next values of the walks. It takes Broker.mu and
// Subscription.mu.
func (s *Subscription) tellStates(batch *Batch) error {
	b := s.broker
	b.mu.Lock()
	s.mu.Lock()
	if s.closed || len(s.walks) == 0 {
		closed := s.closed
		s.mu.Unlock()
		b.mu.Unlock()
		if closed {
			return ErrClosed
		}
		batch.More = true // the walk was given up for another
		return nil
	}
	batch.Gap, s.gap = s.gap, nil
	w := s.walks[0]
	values, size := walkValues, batch.size()
	if batch.Decode {
		values, size = min(values, cmp.Or(batch.Max, values)), MaxState
	}
	found := w.next(b, values, size)
	if w.done() {
		if w.missed || b.states.lost.After(w.to) {
			s.bare = latest(s.bare, w.to)
		}
		if s.walks = slices.Delete(s.walks, 0, 1); len(s.walks) == 0 {
			s.opening = false
		}
	}
	batch.More = true
	s.mu.Unlock()
	b.mu.Unlock()
	for _, f := range found {
		if s.wantsName(f.name) {
			s.tell(batch, f.name, f.version, ID{})
			batch.Events++
		}
	}
	return nil
}

func (w *stateWalk) done() bool { return len(w.names)+len(w.gone)+len(w.patterns) == 0 }

// next is some of what there is to tell.
func (w *stateWalk) next(b *Broker, values, size int) (found []told) {
	take := func(c *stateCell) {
		if c == nil {
			return // lost meanwhile, which is a change
		}
		switch v := c.cur.Load(); {
		case v.id.After(w.to):
			w.missed = true
		case v.id.After(w.from):
			found = append(found, told{c.name, v})
			size -= len(v.value)
		}
	}
	room := func() bool { return len(found) < values && size > 0 }
	for ; len(w.gone) > 0 && room(); w.gone = w.gone[1:] {
		g := w.gone[0]
		if c := b.states.cell(g.name); c == nil {
			found = append(found, told{g.name, &stateVersion{id: g.id}})
		}
	}
	for ; len(w.names) > 0 && room(); w.names = w.names[1:] {
		take(b.states.cell(w.names[0]))
	}
	for end := w.slot + walkStep; len(w.patterns) > 0 && room() && w.slot < end; w.slot++ {
		if !w.skip(b) {
			w.patterns = nil
			break
		}
		if w.slot < len(b.states.slots) {
			if c := b.states.slots[w.slot]; c != nil && w.matches(c.name) {
				take(c)
			}
		}
	}
	return found
}

// wantsName reports whether the type that the values of a channel are told by
// may pass.
func (s *Subscription) wantsName(name string) bool {
	if name == "message" {
		name = ""
	}
	return len(s.types) == 0 || slices.Contains(s.types, name)
}

// tell adds a whole value to batch; with an id if that is not zero.
func (s *Subscription) tell(batch *Batch, name string, v *stateVersion, id ID) {
	event := sse.Event{Type: name, Data: stateData(nil, v)}
	if !id.IsZero() {
		event.ID = id.String()
	}
	if batch.Decode {
		batch.Deliveries = append(batch.Deliveries, Delivery{v.id, name, event, v.state()})
		return
	}
	if s.envelope {
		event.Data, _ = json.Marshal(envelope{name, name, string(event.Data)})
	}
	batch.start()
	batch.own = sse.AppendEvent(batch.own, &event)
	batch.Bytes = batch.own
}

func (v *stateVersion) state() *State {
	return &State{Value: v.value, Version: v.id, Session: v.session}
}

// judgeState decides about a change that a reader comes to. One that lags gets
// the newest only; a patch follows nothing but what it was computed from.
// Subscription.mu is held.
func (s *Subscription) judgeState(e *entry, decode bool) verdict {
	l := e.meta.state
	next, newest := l.next.Load(), l.cell.cur.Load()
	superseded := next != nil && !next.id.After(s.head)
	patch := !l.base.IsZero()
	stranded := patch && (decode || !l.base.After(s.bare))
	switch {
	case superseded && (!patch || stranded || newest.told-l.told >= uint64(len(newest.value))):
	case !stranded:
		return deliver
	case newest.id == e.id:
		s.whole = newest // the cell may have moved on by the time it is told
		return whole
	}
	// It is not told. A patch that was computed from it cannot be, either.
	s.bare = latest(s.bare, e.id)
	return skip
}

// deliverState adds a change to batch where it is not taken as it lies there.
func (s *Subscription) deliverState(batch *Batch, at place, e *entry, v verdict) {
	l := e.meta.state
	if v == whole {
		s.tell(batch, e.meta.channel, s.whole, e.id)
		s.whole = nil
		return
	}
	block := at.seg.bytes(at.i, at.i+1)
	state := &State{Version: e.id}
	if l.at > 0 {
		state.Value = block[l.at : len(block)-len("}\n\n")]
	}
	batch.Deliveries = append(batch.Deliveries, Delivery{e.id, e.meta.channel, sse.Parse(block), state})
}
