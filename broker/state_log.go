package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// State is the value of a channel.
type State struct {
	// Value is JSON text without white space; nil if the channel has none. It is
	// shared and must not be modified.
	Value []byte
	// Version is the id of the last change.
	Version ID
	// Session is the session that the value is bound to, or several, separated by
	// spaces: the value is removed when the last of them ends. "" if it is bound
	// to none.
	Session string
	// Written is when the value was last written, in milliseconds of the log's
	// time, also if that did not change it.
	Written uint64
}

// StateOp is what an Op of KindState does to the value of its channel.
type StateOp struct {
	// Value is what the channel gets, as JSON text; nil removes the value.
	Value []byte
	// If is the condition under which it is done; else it is refused.
	If Condition
	// Session binds the value to a session, beside those that it is bound to. "" unbinds
	// it from all. If Value is nil the value is unbound from Session, and removed if
	// that was the last; with "" it is removed in any case.
	Session string
	// Asked is what the caller asked for, if Value was computed from that. Then
	// an idempotency key belongs to Asked, not to Value and If.
	Asked []byte
	// Answer has the log keep Value with the idempotency key, for the answer when
	// the operation is repeated. It is meant for small values.
	Answer bool

	bounds  StateBounds // as configured; Publish sets them
	coming  valueCount  // what of it Publish counts in the owner's share
	carried bool        // Session is copied from the current value
	whole   bool        // without Value, it is removed whatever it is bound to
}

// Bounds are the bounds that the log has to keep to. With the zero StateBounds there
// are none.
func (s *StateOp) Bounds() StateBounds { return s.bounds }

// Binding is the session that the log has to bind the value to, or without a Value to
// unbind it from.
func (s *StateOp) Binding() string {
	if s.whole {
		return ""
	}
	return s.Session
}

// Within returns a copy of s with other bounds. It is for tests of logs: Publish sets
// those that are configured.
func (s *StateOp) Within(bounds StateBounds) *StateOp {
	bounded := *s
	bounded.bounds = bounds
	return &bounded
}

// StateBounds bounds the values of all channels.
type StateBounds struct {
	Count int // of values
	Bytes int // of values and the names of their channels
}

// StateEntry is what an entry of KindState sets.
type StateEntry struct {
	Value   []byte // nil: the channel has none any more
	Session string
}

// Condition says when a state operation is done.
type Condition struct {
	Kind     ConditionKind
	Versions []ID          // IfVersion, IfNotVersion, IfIdle
	Idle     time.Duration // IfIdle
}

// ConditionKind is a kind of condition.
type ConditionKind uint8

// The conditions.
const (
	IfAny        ConditionKind = iota // always
	IfAbsent                          // if the channel has no value
	IfPresent                         // if the channel has a value
	IfVersion                         // if its version is one of Versions
	IfNotVersion                      // if it has no value, or its version is none of Versions
	IfIdle                            // if its version is one of Versions, and it was not written for Idle
	IfNever                           // never; a known idempotency key is answered all the same
)

// holds reports whether the condition holds for a channel that has s.
func (c *Condition) holds(s *State, now time.Time) bool {
	present := s.Value != nil
	known := present && slices.Contains(c.Versions, s.Version)
	switch c.Kind {
	case IfAny:
		return true
	case IfAbsent:
		return !present
	case IfPresent:
		return present
	case IfVersion:
		return known
	case IfNotVersion:
		return !known
	case IfIdle:
		return known && s.Written+uint64(c.Idle/time.Millisecond) <= uint64(max(now.UnixMilli(), 0))
	}
	return false
}

// Holds reports whether the condition holds for a channel that has s. It does not
// apply to IfIdle, which only the log can decide.
func (c *Condition) Holds(s *State) bool { return c.holds(s, time.Time{}) }

// spell calls field with all that distinguishes a state operation from another.
func (s *StateOp) spell(field func([]byte)) {
	session := s.Session
	if s.carried {
		session = "" // the caller did not ask for it, and it may differ in the next try
	}
	field([]byte(session))
	if s.Asked != nil {
		field([]byte("asked"))
		field(s.Asked)
		return
	}
	if s.Value == nil {
		field([]byte("none"))
	} else {
		field([]byte("value"))
		field(s.Value)
	}
	condition := []byte{byte(s.If.Kind)}
	condition = binary.LittleEndian.AppendUint64(condition, uint64(s.If.Idle))
	for _, id := range s.If.Versions {
		condition = append(id.AppendTo(condition), ' ')
	}
	field(condition)
}

// valueDigest is a hash of a value: equal values have the same.
type valueDigest [sha256.Size]byte

func newValueDigest(value []byte) (digest valueDigest) {
	v, err := jsonvalue.Parse(value)
	if err != nil {
		return sha256.Sum256(value) // not from Publish, which checks it: equal text is equal
	}
	return sha256.Sum256(v.Canonical(nil))
}

// digestOfValue is newValueDigest, but of the text of a fact: the same fact is written in the
// same way.
func digestOfValue(name string, value []byte) valueDigest {
	if isFact(name) {
		return sha256.Sum256(value)
	}
	return newValueDigest(value)
}

// ValueDigest is a hash of a JSON text that equal values have in common, however they
// are written.
func ValueDigest(value []byte) [sha256.Size]byte { return newValueDigest(value) }

// valueDigestsOf are the digests of the values that operations set; nil if
// none sets one.
func valueDigestsOf(ops []Op) (digests []valueDigest) {
	for i := range ops {
		if ops[i].Kind != KindState {
			continue
		}
		if digests == nil {
			digests = make([]valueDigest, len(ops))
		}
		if ops[i].State.Value != nil {
			digests[i] = digestOfValue(ops[i].Channel, ops[i].State.Value)
		}
	}
	return digests
}

// stateTable has the values of a log in memory, to decide conditions by.
type stateTable struct {
	byName map[string]*stateRow
	count  int // of values, without facts
	bytes  int // of them
}

type stateRow struct {
	State
	digest valueDigest
	loaded bool // digest is not computed yet
}

// equals reports whether the value has that digest. Those of loaded values are computed
// when they are needed: there may be many.
func (row *stateRow) equals(name string, digest valueDigest) bool {
	if row.loaded {
		row.digest, row.loaded = digestOfValue(name, row.Value), false
	}
	return row.digest == digest
}

func rowBytes(name string, value []byte) int { return len(name) + len(value) }

// of is the state of a channel, the zero State if it has none.
func (t *stateTable) of(name string) *State {
	if row := t.byName[name]; row != nil {
		return &row.State
	}
	return &State{}
}

// decide does op, whose id is next, and returns what its entry sets. It returns nil
// if there is no entry: with r.Unchanged, or with r.Err if op is refused.
func (t *stateTable) decide(op *Op, digest valueDigest, next ID, now time.Time, r *Result) *StateEntry {
	s, row := op.State, t.byName[op.Channel]
	if old := t.of(op.Channel); !s.If.holds(old, now) || s.Value == nil && old.Value == nil {
		r.Err = ErrStateMismatch
		current := *old
		r.State = &current
		return nil
	}
	session := s.Binding()
	switch {
	case session == "":
	case s.Value == nil:
		rest, bound := unbind(row.Session, session)
		if !bound {
			r.Err = ErrStateMismatch
			current := row.State
			r.State = &current
			return nil
		}
		if rest != "" {
			row.Session, row.Version = rest, next
			return &StateEntry{Value: row.Value, Session: rest}
		}
	case row != nil:
		var err error
		if session, err = bind(row.Session, session); err != nil {
			r.Err = err
			return nil
		}
	}
	if s.Value == nil {
		t.charge(op.Channel, -1, -rowBytes(op.Channel, row.Value))
		delete(t.byName, op.Channel)
		return &StateEntry{}
	}
	written := max(uint64(max(now.UnixMilli(), 0)), next.Ms)
	more, grows := 0, rowBytes(op.Channel, s.Value)
	switch {
	case row == nil:
		more = 1
	case row.Session == session && row.equals(op.Channel, digest):
		row.Written, r.Unchanged = written, true
		return nil
	default:
		grows -= rowBytes(op.Channel, row.Value)
	}
	// A value that does not grow is accepted also over a bound that was lowered.
	if bounds := s.bounds; bounds != (StateBounds{}) &&
		(t.count+more > bounds.Count && row == nil || t.bytes+grows > bounds.Bytes && grows > 0) {
		r.Err = ErrStateFull
		return nil
	}
	if t.byName == nil {
		t.byName = map[string]*stateRow{}
	}
	r.Created = row == nil
	t.charge(op.Channel, more, grows)
	name := strings.Clone(op.Channel) // it may be a part of a request
	t.byName[name] = &stateRow{
		State:  State{Value: s.Value, Version: next, Session: strings.Clone(session), Written: written},
		digest: digest,
	}
	return &StateEntry{Value: s.Value, Session: session}
}

// charge adds to the number and the size of values. Facts do not count: they have a
// bound of their own.
func (t *stateTable) charge(name string, count, size int) {
	if !isFact(name) {
		t.count += count
		t.bytes += size
	}
}

// load sets or removes a value that the log has.
func (t *stateTable) load(name string, s State) {
	if row := t.byName[name]; row != nil {
		t.charge(name, -1, -rowBytes(name, row.Value))
		delete(t.byName, name)
	}
	if s.Value == nil {
		return
	}
	if t.byName == nil {
		t.byName = map[string]*stateRow{}
	}
	t.charge(name, 1, rowBytes(name, s.Value))
	t.byName[name] = &stateRow{State: s, loaded: true}
}

// entries are the values as Origin.States has them.
func (t *stateTable) entries() []Entry {
	entries := make([]Entry, 0, len(t.byName))
	for name, row := range t.byName {
		entries = append(entries, Entry{
			ID: row.Version, Version: EntryVersion, Kind: KindState, Channel: name,
			State: &StateEntry{Value: row.Value, Session: row.Session},
		})
	}
	return entries
}
