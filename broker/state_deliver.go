package broker

import (
	"cmp"
	"slices"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// How a reader gets values: from a snapshot, or when it comes to a change.

// Opening reports whether Read still has to fetch values that are older than Start.
// Until it has, Start must not be used to resume from.
func (s *Subscription) Opening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values != nil && s.values.opening
}

// Telling reports whether the next Read fetches a part of a snapshot. The cursor does
// not move before all of the snapshot is read.
func (s *Subscription) Telling() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values.pending()
}

// told is a value that a snapshot has come to.
type told struct {
	name    string
	version *stateVersion
}

// tellStates fetches the next values of the snapshots. It takes Broker.mu and
// Subscription.mu.
func (s *Subscription) tellStates(batch *Batch) error {
	b := s.broker
	b.mu.Lock()
	s.mu.Lock()
	if s.closed || !s.values.pending() {
		closed := s.closed
		s.mu.Unlock()
		b.mu.Unlock()
		if closed {
			return ErrClosed
		}
		batch.More = true // another snapshot has replaced this one
		return nil
	}
	batch.Gap, s.gap = s.gap, nil
	v := s.values
	w := v.snapshots[0]
	values, size := snapshotValues, batch.size()
	if batch.Decode {
		values, size = min(values, cmp.Or(batch.Max, values)), MaxState
	}
	found := w.next(b, values, size)
	if w.left {
		found = slices.DeleteFunc(found, func(f told) bool { return !s.selects(f.name) })
	}
	if w.done() {
		if w.missed || b.states.lost.After(w.to) {
			v.bare = latest(v.bare, w.to)
		}
		if v.snapshots = slices.Delete(v.snapshots, 0, 1); len(v.snapshots) == 0 {
			v.opening = false
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

func (w *stateSnapshot) done() bool {
	return len(w.names)+len(w.gone)+len(w.removed) == 0 && !w.slots
}

// selects reports whether one of the names that s reads selects a channel. Broker.mu
// is held.
func (s *Subscription) selects(name string) bool {
	return slices.ContainsFunc(s.names, func(read string) bool {
		p, _ := channel.ParsePattern(read)
		return p.Match(name)
	})
}

// next is the next part of the snapshot: first the channels that have lost their
// values.
func (w *stateSnapshot) next(b *Broker, values, size int) (found []told) {
	take := func(c *stateCell) {
		if c == nil {
			return // removed meanwhile: there is a change that says so
		}
		switch v := c.cur.Load(); {
		case v.id.After(w.to):
			w.missed = true
		case v.id.After(w.from):
			found = append(found, told{c.name, v})
			size -= len(v.value)
		}
	}
	lost := func(g goneState) {
		if again := b.states.gone.byName[g.name]; again.After(g.id) && again.After(w.to) {
			return // there is a change that says so
		}
		if b.states.cell(g.name) == nil {
			found = append(found, told{g.name, &stateVersion{id: g.id}})
		}
	}
	room := func() bool { return len(found) < values && size > 0 }
	for ; len(w.gone) > 0 && room(); w.gone = w.gone[1:] {
		lost(w.gone[0])
	}
	step := w.step()
	for ; len(w.removed) > 0 && room() && step > 0; w.removed = w.removed[1:] {
		if g := w.removed[0]; w.matches(g.name) {
			lost(g)
		}
		step--
	}
	for ; len(w.names) > 0 && room(); w.names = w.names[1:] {
		take(b.states.cell(w.names[0]))
	}
	for ; w.slots && room() && step > 0; w.slot++ {
		if w.slot >= len(b.states.slots) {
			w.slots = false
			break
		}
		if c := b.states.slots[w.slot]; c != nil && w.matches(c.name) {
			take(c)
		}
		step--
	}
	return found
}

// wantsName reports whether the reader wants the event type of a channel's values,
// which is the channel's name.
func (s *Subscription) wantsName(name string) bool {
	if name == "message" {
		name = ""
	}
	return s.form.wants(name)
}

// tell adds a frame with a whole value to batch; with an id, if that is not zero.
func (s *Subscription) tell(batch *Batch, name string, v *stateVersion, id ID) {
	event := sse.Event{Type: name, Data: stateData(nil, v)}
	if !id.IsZero() {
		event.ID = id.String()
	}
	if batch.Decode {
		batch.Deliveries = append(batch.Deliveries, Delivery{v.id, name, event, v.state(), nil})
		return
	}
	if s.form.encloses() {
		s.form.enclose(&event, name)
	}
	batch.start()
	batch.own = sse.AppendEvent(batch.own, &event)
	batch.Bytes = batch.own
}

func (v *stateVersion) state() *State {
	return &State{Value: v.value, Version: v.id, Session: v.session}
}

// judgeState decides how a reader gets a change. One that lags gets the newest only,
// and one that does not have the base of a patch gets the whole value.
// Subscription.mu is held.
func (s *Subscription) judgeState(e *entry, batch *Batch) verdict {
	l := e.meta.state
	next, newest := l.next.Load(), l.cell.cur.Load()
	superseded := next != nil && !next.id.After(batch.head)
	patch := !l.base.IsZero()
	stranded := patch && (batch.Decode || !l.base.After(s.values.lacks()))
	switch {
	case superseded && (!patch || stranded || newest.told-l.told >= uint64(len(newest.value))):
	case !stranded:
		return deliver
	case newest.id == e.id:
		batch.whole = newest // the cell may have another value when it is told
		return whole
	}
	// The reader does not get it, and so not a patch that was computed from it.
	s.mayLack(e.id)
	return skip
}

// deliverState adds a change to batch: the whole value, or a Delivery.
func (s *Subscription) deliverState(batch *Batch, at place, e *entry, v verdict) {
	l := e.meta.state
	if v == whole {
		s.tell(batch, e.meta.channel, batch.whole, e.id)
		batch.whole = nil
		return
	}
	block := at.seg.bytes(at.i, at.i+1)
	state := &State{Version: e.id}
	if l.at > 0 {
		state.Value = block[l.at : len(block)-len("}\n\n")]
	}
	batch.Deliveries = append(batch.Deliveries, Delivery{e.id, e.meta.channel, sse.Parse(block), state, nil})
}
