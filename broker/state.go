package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// Errors about state, matched with errors.Is.
var (
	ErrStateTooLarge = errkind.New("too-large", "", "the value is too large")
	ErrNoSession     = errkind.New("no-session", "", "there is no such session here")
	ErrStateName     = errkind.New("bad-channel", "", `a channel whose name begins with "evstream." has no state: its frames would be taken for the hub's own`)
)

// The values of channels, as this node has applied them. All of it is under
// Broker.mu, but for what readers load.
//
// A value has no history of its own: only the newest one is held, and the latest
// changes, for readers that are connected. See announce and snapshot.

// states are the values of all channels.
type states struct {
	byName map[string]*stateCell
	// slots are the cells that have a value. A cell keeps its index as long as
	// it has one, so that a snapshot can go through them a part at a time.
	slots []*stateCell
	free  []int     // indices of slots that are empty
	names nameIndex // of the cells that have a value
	bytes int

	// loaded is the newest version that was loaded. It may be above what was
	// applied: then the change to it is ignored when the log comes to it.
	loaded ID

	// gone are the removals of values, for readers that come back.
	gone   lossMarks
	lost   ID // the newest removal
	forgot ID // the newest removal that gone may not have
	// dead are cells without a value that are kept for a while, oldest first: a
	// channel that gets a value again goes on with the same cell.
	dead []*stateCell

	byDue byDue                              // the cells that expire, the first one first
	bound map[string]map[*stateCell]struct{} // the cells that are bound to a session, by session
	nodes map[string]int                     // how many sessions of bound each node has
}

// maxDead bounds states.dead.
const maxDead = 1024

// stateCell is the value of one channel.
type stateCell struct {
	name   string
	policy StatePolicy
	slot   int    // in states.slots
	owner  *owner // in whose share it counts; nil for none
	last   *stateLink
	cur    atomic.Pointer[stateVersion] // stored under Broker.mu

	due  uint64 // when it expires, in milliseconds
	heap int    // index in states.byDue, -1 when it does not
}

// stateVersion is a value and its version. It does not change.
type stateVersion struct {
	id      ID
	value   []byte // nil: there is none
	session string
	key     string // the value's name in frames
	told    uint64 // total size of the patches that were told, up to this one
}

// stateLink is one change; the metas of its entries refer to it. It does not hold the
// value, so that the memory of changes is that of their encoded bytes.
type stateLink struct {
	cell *stateCell
	id   ID
	next atomic.Pointer[stateLink]
	// base is the version that the patch was computed from; zero if the change is
	// told as the whole value.
	base ID
	told uint64 // as in stateVersion
	at   int    // where the value begins in the encoded event; 0 if it is not in it
}

func newStates() states {
	return states{
		byName: map[string]*stateCell{},
		bound:  map[string]map[*stateCell]struct{}{},
		nodes:  map[string]int{},
		gone:   newLossMarks(),
	}
}

// cell is the cell of a channel that has a value, else nil.
func (t *states) cell(name string) *stateCell {
	if c := t.byName[name]; c != nil && c.cur.Load().value != nil {
		return c
	}
	return nil
}

// State is the value of a channel, the zero State if it has none.
func (b *Broker) State(name string) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.states.cell(name)
	if c == nil {
		return State{}
	}
	v := c.cur.Load()
	return State{Value: v.value, Version: v.id, Session: v.session}
}

// checkState checks an operation on a value, and sets in it what the log needs.
func (b *Broker) checkState(op *Op) error {
	if err := channel.Check(op.Channel); err != nil {
		return err
	}
	if strings.HasPrefix(op.Channel, "evstream.") {
		return ErrStateName
	}
	s := op.State
	if s == nil {
		return errors.New("an operation on state needs a StateOp")
	}
	cfg := b.config.Load()
	s.bounds = StateBounds{Count: cfg.MaxStates, Bytes: cfg.MaxStateBytes}
	if s.Value != nil {
		value, err := jsonvalue.Compact(s.Value, MaxState)
		if over, ok := errors.AsType[*jsonvalue.SizeError](err); ok {
			return fmt.Errorf("%w: %w", ErrStateTooLarge, over)
		}
		if err != nil {
			return err
		}
		s.Value = value
	}
	if s.Session != "" && !s.carried && s.If.Kind != IfNever {
		return b.mayBind(s.Session)
	}
	return nil
}

// publishedStates counts what Publish did to values, and removes those that it bound
// to a session which has ended meanwhile.
func (b *Broker) publishedStates(ops []Op, results []Result) {
	for i := range ops {
		s, r := ops[i].State, &results[i]
		switch {
		case ops[i].Kind != KindState || s.If.Kind == IfNever || errors.Is(r.Err, ErrNotReached):
		case r.Err != nil:
			b.stateRefused.Add(1)
		case s.Session != "" && !s.carried && !b.IsForeign(s.Session):
			b.endIfClosed(s.Session) // it may have ended in the meantime
		}
	}
}

// loadStates sets the values that the log has when following it starts.
func (b *Broker) loadStates(o Origin) {
	t := &b.states
	clear(b.facts)
	for i := range o.States {
		if e := &o.States[i]; isFact(e.Channel) {
			b.putFact(e) // sendFacts tells of them
		} else if e.State.Value != nil {
			b.setState(e, false) // all readers get snapshots
			t.loaded = latest(t.loaded, e.ID)
		}
	}
	for name, id := range o.Removed {
		t.gone.raise(name, id)
		t.lost, t.loaded = latest(t.lost, id), latest(t.loaded, id)
	}
	t.gone.all = latest(t.gone.all, o.Forgot)
	t.forgot = latest(t.forgot, o.Forgot)
}

// applyState sets the value of a channel, and tells its readers. It ignores an entry
// that is not above the channel's version: that was applied before.
func (b *Broker) applyState(e *Entry) { b.setState(e, true) }

func (b *Broker) setState(e *Entry, tell bool) {
	t := &b.states
	c := t.byName[e.Channel]
	if c == nil {
		if e.State.Value == nil {
			t.gone.raise(e.Channel, e.ID)
			return
		}
		c = &stateCell{name: strings.Clone(e.Channel), policy: b.statePolicyOf(e.Channel), heap: -1} // the name may be a part of a request
		c.cur.Store(&stateVersion{})
		t.byName[c.name] = c
	}
	old := c.cur.Load()
	if !e.ID.After(old.id) {
		return
	}
	next := &stateVersion{
		id: e.ID, value: e.State.Value, session: strings.Clone(e.State.Session),
		key: c.policy.key(), told: old.told,
	}
	if tell {
		b.announce(c, old, next)
	}
	c.cur.Store(next)
	t.account(c, old, next)
	b.ownValue(c, old, next, e.Owner)
	for session := range strings.FieldsSeq(next.session) {
		b.endOfOwn(session)
	}
	switch {
	case next.value == nil:
		t.gone.raise(c.name, next.id)
		t.lost = next.id
		t.setDue(c, 0)
		t.addDead(c)
	case c.policy.TTL > 0:
		t.setDue(c, next.id.Ms+uint64(c.policy.TTL.Milliseconds()))
		b.kickExpiry()
	}
}

// account updates what counts and finds values, when c changes from old to next.
func (t *states) account(c *stateCell, old, next *stateVersion) {
	if old.value != nil {
		t.bytes -= rowBytes(c.name, old.value)
		for session := range strings.FieldsSeq(old.session) {
			set := t.bound[session]
			if delete(set, c); len(set) == 0 {
				delete(t.bound, session)
				if t.nodes[NodeOf(session)]--; t.nodes[NodeOf(session)] == 0 {
					delete(t.nodes, NodeOf(session))
				}
			}
		}
	}
	if next.value != nil {
		t.bytes += rowBytes(c.name, next.value)
		for session := range strings.FieldsSeq(next.session) {
			if t.bound[session] == nil {
				t.bound[session] = map[*stateCell]struct{}{}
				t.nodes[NodeOf(session)]++
			}
			t.bound[session][c] = struct{}{}
		}
	}
	switch {
	case old.value == nil && next.value != nil:
		t.names.add(c.name)
		if n := len(t.free); n > 0 {
			c.slot, t.free = t.free[n-1], t.free[:n-1]
			t.slots[c.slot] = c
		} else {
			c.slot = len(t.slots)
			t.slots = append(t.slots, c)
		}
	case old.value != nil && next.value == nil:
		t.names.remove(c.name)
		t.slots[c.slot] = nil
		t.free = append(t.free, c.slot)
		if len(t.free) == len(t.slots) {
			t.slots, t.free = nil, nil
		}
	}
}

// count is how many channels have a value.
func (t *states) count() int { return len(t.slots) - len(t.free) }

// addDead adds a cell that lost its value to dead, and removes the oldest ones over the
// bound.
func (t *states) addDead(c *stateCell) {
	t.dead = append(t.dead, c)
	for len(t.dead) > maxDead {
		first := t.dead[0]
		t.dead[0] = nil
		t.dead = t.dead[1:]
		if first.cur.Load().value == nil && t.byName[first.name] == first {
			delete(t.byName, first.name)
		}
	}
}

// configureStates sets the policies of all cells anew.
func (b *Broker) configureStates() {
	for _, c := range b.states.byName {
		c.policy = b.statePolicyOf(c.name)
		v := c.cur.Load()
		if v.value == nil {
			continue
		}
		due := uint64(0)
		if c.policy.TTL > 0 {
			due = v.id.Ms + uint64(c.policy.TTL.Milliseconds())
		}
		b.states.setDue(c, due)
		if key := c.policy.key(); key != v.key {
			renamed := *v
			renamed.key = key
			c.cur.Store(&renamed)
		}
	}
	b.kickExpiry()
}

func (p *StatePolicy) key() string {
	if p.Key == "" {
		return "value"
	}
	return p.Key
}

// addStateFeed adds a feed for the changes of values beside a feed, and positions in
// it for the readers of that.
func (b *Broker) addStateFeed(feed *feed) {
	feed.state = newFeed(feed.name, statePolicyFor(feed.policy))
	feed.state.of = feed
	b.setOwner(feed.state, feed.owner)
	for _, p := range feed.readers {
		b.addStateReader(p.sub, feed.state)
	}
}

// statePolicyFor is the policy of a feed for changes, beside one with policy p. It
// keeps no change for later readers, and holds as many for connected ones as fit.
func statePolicyFor(p Policy) Policy { return Policy{Bytes: p.Bytes} }

// addStateReader has s read a feed of changes, from now on.
func (b *Broker) addStateReader(s *Subscription, feed *feed) {
	p := b.addReader(s, feed)
	p.chain, p.place = feed.chain.Load(), feed.end()
	p.from, p.liveFrom = b.issued.last, b.issued.last
	s.mu.Lock()
	defer s.mu.Unlock()
	s.positions = append(s.positions, p)
}

// removeStateFeed removes a feed of changes that has no readers.
func (b *Broker) removeStateFeed(feed *feed) {
	b.discharge(feed)
	feed.of.state = nil
}
