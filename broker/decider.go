package broker

import (
	"strings"
	"time"
)

// Decider decides the operations of a log that only one process writes: which id each
// gets, whether its idempotency key is known, and whether its condition and the bounds
// of values allow it. It is the one place of such decisions: the log in memory and the
// durable one have a Decider each, and differ in what becomes of the entries.
//
// A log that may fail to store what was decided encloses it in Begin and Commit or
// Rollback. The log's lock guards a Decider: its methods are not safe for concurrent
// use, but for Prepare. Between Begin and its end, Decide must get the same time.
type Decider struct {
	last   ID
	base   uint64
	keys   keyWindow
	states stateTable
	closed closedSet

	open bool // between Begin and Commit or Rollback
	undo []undoStep
}

// NewDecider returns a Decider whose first id is above last. In each millisecond its
// ids begin at base.
func NewDecider(last ID, base uint64) *Decider {
	return &Decider{last: last, base: base, keys: keyWindow{max: maxKeys}}
}

// Prepared is what deciding operations needs that takes long to compute.
type Prepared struct {
	digests []digest
	values  []valueDigest
}

// Prepare computes what Decide needs. It needs no lock.
func Prepare(ops []Op) Prepared {
	return Prepared{digests: digestsOf(ops), values: valueDigestsOf(ops)}
}

// Decisions are what Decide adds to: the entries that are to be stored and applied,
// in order.
type Decisions struct {
	Entries []Entry

	// Details has Decide add also what a log has to store beside the entries.
	Details bool
	// Ops has the operation of each of Entries.
	Ops []*Op
	// Keys are the idempotency keys to remember, and Written the values that were
	// written without a change, each with the operation that it comes of.
	Keys    []KeyRecord
	Written []Written
}

// Reset empties d, so that what it held can be freed.
func (d *Decisions) Reset() {
	clear(d.Entries)
	clear(d.Ops)
	clear(d.Keys)
	clear(d.Written)
	d.Entries, d.Ops, d.Keys, d.Written = d.Entries[:0], d.Ops[:0], d.Keys[:0], d.Written[:0]
}

// KeyRecord is an idempotency key that is remembered, with the first answer.
type KeyRecord struct {
	Key     Key
	Digest  [32]byte // of the operation
	ID      ID
	At      time.Time
	Created bool
	Answer  []byte // the value that the answer told; nil if it told none
	Op      *Op    // nil where it is loaded
}

// Written says that a value was written last at At, in milliseconds, though its version
// is older or that of an entry that did not write it.
type Written struct {
	Channel string
	At      uint64
	Op      *Op // nil where it is loaded
}

// Decide decides operations, with no other between them. It sets their results, and
// adds to out what is to be stored.
func (d *Decider) Decide(now time.Time, ops []Op, p Prepared, results []Result, out *Decisions) {
	d.keys.expire(now)
	var s stages
	for i := range ops {
		op, r := &ops[i], &results[i]
		if s.over(ops, results, i) {
			r.Err = ErrNotReached
			continue
		}
		if op.Key != (Key{}) {
			if d.keys.known(now, op, p.digests[i], r) {
				continue
			}
			if op.oldKey {
				r.Err = ErrShareOfKeys
				continue
			}
			if !d.keys.room(now) {
				r.Err = ErrTooManyKeys
				continue
			}
		}
		next := d.next(now)
		if d.decideClosed(op, next, r); r.Err != nil {
			continue
		}
		var state *StateEntry
		if op.Kind == KindState {
			if state = d.decideState(op, p.values[i], next, now, r); r.Err != nil {
				continue
			}
		}
		switch {
		case !r.Unchanged:
			r.ID = next
		case op.Kind == KindState:
			r.ID = d.states.of(op.Channel).Version
		}
		if op.Key != (Key{}) {
			d.remember(now, op, p.digests[i], r, out)
		}
		if out.Details && op.Kind == KindState {
			if s := d.states.of(op.Channel); r.Unchanged || s.Value != nil && s.Written != next.Ms {
				out.Written = append(out.Written, Written{op.Channel, s.Written, op})
			}
		}
		if r.Unchanged {
			continue
		}
		d.last = next
		out.Entries = append(out.Entries, Entry{
			ID: next, Version: EntryVersion, Kind: op.Kind,
			Channel: op.Channel, Event: op.Event, Except: op.Except, Filter: op.Filter, State: state, Close: op.closes(), Owner: op.Owner,
		})
		if out.Details {
			out.Ops = append(out.Ops, op)
		}
	}
}

// next is the next id: of this millisecond, unless the clock has not moved on or has
// been set back.
func (d *Decider) next(now time.Time) ID {
	if ms := uint64(max(now.UnixMilli(), 0)); ms > d.last.Ms {
		return ID{Ms: ms, N: d.base}
	}
	return ID{Ms: d.last.Ms, N: d.last.N + 1}
}

// Last is the newest id that was given, or loaded.
func (d *Decider) Last() ID { return d.last }

// States are the values as Origin.States has them.
func (d *Decider) States() []Entry { return d.states.entries() }

// State is the value of a channel, the zero State if it has none.
func (d *Decider) State(name string) State { return *d.states.of(name) }

// IsFact reports whether the name of a value is that of a fact: it belongs to no
// channel, and no reader gets it.
func IsFact(name string) bool { return isFact(name) }

// Closed are the closed channels as Origin.Closed has them.
func (d *Decider) Closed() []Entry { return d.closed.entries() }

// undoStep takes back one step of deciding: the change of a value, that of what closed a
// channel, or with key the newest key.
type undoStep struct {
	name         string
	row          *stateRow // a copy of what there was; nil if there was none
	count, bytes int

	closes bool           // it is about what closed the channel
	was    *closedChannel // which was closed; nil if it was open

	key         *keyRecord
	newest      *keyRecord // the one before it in its generation
	generations int        // how many there were
}

// Begin begins what Rollback takes back. There must be a Commit or a Rollback for each.
func (d *Decider) Begin() { d.open = true }

// Commit says that what was decided since Begin is stored.
func (d *Decider) Commit() {
	clear(d.undo)
	d.open, d.undo = false, d.undo[:0]
}

// Rollback takes back what was decided since Begin, because it is not stored. Ids are
// not given again: one may be on the disk.
func (d *Decider) Rollback() {
	for i := len(d.undo) - 1; i >= 0; i-- {
		step := &d.undo[i]
		if step.key != nil {
			d.keys.takeBack(step.key, step.newest, step.generations)
			continue
		}
		if step.closes {
			d.closed.remove(step.name)
			if step.was != nil {
				d.closed.add(step.was)
			}
			continue
		}
		d.states.count, d.states.bytes = step.count, step.bytes
		if step.row == nil {
			delete(d.states.byName, step.name)
		} else {
			d.states.byName[step.name] = step.row
		}
	}
	d.Commit()
}

func (d *Decider) decideClosed(op *Op, next ID, r *Result) {
	changes := d.open && (op.Kind == KindClose || op.Kind == KindPurge)
	if !changes {
		d.closed.decide(op, next, r)
		return
	}
	step := undoStep{closes: true, name: strings.Clone(op.Channel), was: d.closed.byName[op.Channel]}
	if d.closed.decide(op, next, r); r.Err == nil && !r.Unchanged {
		d.undo = append(d.undo, step)
	}
}

func (d *Decider) decideState(op *Op, digest valueDigest, next ID, now time.Time, r *Result) *StateEntry {
	if !d.open {
		return d.states.decide(op, digest, next, now, r)
	}
	step := undoStep{name: strings.Clone(op.Channel), count: d.states.count, bytes: d.states.bytes}
	if row := d.states.byName[op.Channel]; row != nil {
		was := *row
		step.row = &was
	}
	state := d.states.decide(op, digest, next, now, r)
	if r.Err == nil {
		d.undo = append(d.undo, step)
	}
	return state
}

func (d *Decider) remember(now time.Time, op *Op, digest digest, r *Result, out *Decisions) {
	n := len(d.keys.generations)
	step := undoStep{generations: n}
	if n > 0 {
		step.newest = d.keys.generations[n-1].newest
	}
	step.key = d.keys.remember(now, op, digest, r)
	if d.open {
		d.undo = append(d.undo, step)
	}
	if k := step.key; out.Details {
		out.Keys = append(out.Keys, KeyRecord{k.key, k.digest, k.id, k.at, k.created, k.value, op})
	}
}

// LoadKey adds a key that the log has remembered. Keys must be loaded in the order of
// their times; one of a time to come, because the clock was set back, is taken for one
// of now.
func (d *Decider) LoadKey(now time.Time, k KeyRecord) {
	if k.At.After(now) {
		k.At = now
	}
	record := &keyRecord{key: k.Key, digest: k.Digest, id: k.ID, at: k.At, created: k.Created, value: k.Answer}
	if record.past(now) || d.keys.find(now, k.Key) != nil {
		return
	}
	d.keys.add(record)
}

// LoadClosed takes in an entry that closes or opens a channel, and ignores others. They
// must be loaded in their order.
func (d *Decider) LoadClosed(e *Entry) {
	switch {
	case e.Kind == KindClose && e.Close != nil:
		c := newClosed(e.Channel, e.ID, e.Close.For)
		c.by = e.Owner
		d.closed.add(c)
	case e.Kind == KindPurge:
		d.closed.remove(e.Channel)
	}
}

// LoadState adds a value that the log has. The state of a channel must be loaded before
// its later changes.
func (d *Decider) LoadState(name string, s State) {
	d.states.load(strings.Clone(name), s)
	d.last = latest(d.last, s.Version)
}

// LoadEntry takes in an entry that the log has: its id, and for KindState the change of
// the value, unless that is known already. Entries must be loaded in order.
func (d *Decider) LoadEntry(e *Entry) {
	d.last = latest(d.last, e.ID)
	if e.Kind != KindState || e.State == nil || !e.ID.After(d.states.of(e.Channel).Version) {
		return
	}
	d.LoadState(e.Channel, State{Value: e.State.Value, Version: e.ID, Session: e.State.Session, Written: e.ID.Ms})
}

// LoadWritten takes in when a value was written last.
func (d *Decider) LoadWritten(w Written) {
	if row := d.states.byName[w.Channel]; row != nil {
		row.Written = w.At
	}
}

// LoadID takes in an id that was given: the next ones are above it.
func (d *Decider) LoadID(id ID) { d.last = latest(d.last, id) }
