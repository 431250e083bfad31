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
	// Value is JSON text without white space; nil if the channel has none. It
	// is shared and must not be changed.
	Value []byte
	// Version is the id of the last change.
	Version ID
	// Session is the one that the value is bound to: it goes with it.
	Session string
	// Written is when the value was written last, changed by that or not, in
	// milliseconds of the log's time.
	Written uint64
}

// StateOp is what an Op of KindState does to the value of its channel.
type StateOp struct {
	// Value is what the channel gets, as JSON text; nil removes the value.
	Value []byte
	// If must hold, or else the operation is refused.
	If Condition
	// Session binds the value to a session that is open at this broker.
	Session string
	// Asked is what the caller asked for, where Value was computed from it: an
	// idempotency key belongs to it instead of to Value and If.
	Asked []byte
	// Answer keeps Value with the idempotency key, for the answer to a second
	// try. It is for small values.
	Answer bool

	bounds  StateBounds // as they are configured; Publish fills them in
	carried bool        // Session is that of the value before
}

// Bounds are what the log has to keep the values of all channels within. The
// zero StateBounds bounds nothing.
func (s *StateOp) Bounds() StateBounds { return s.bounds }

// Within returns s with other bounds, which Publish replaces by those that are
// configured.
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

// Condition is what must be so for a state operation to be done.
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
	IfAbsent                          // the channel has no value
	IfPresent                         // it has one
	IfVersion                         // its value is of one of Versions
	IfNotVersion                      // it has no value of any of Versions
	IfIdle                            // its value is of one of Versions, and was not written for Idle
	IfNever                           // only a known idempotency key is answered
)

// holds decides the condition for a channel that has s.
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

// Holds decides the condition for a channel that has s, but for IfIdle, which
// only the log can decide.
func (c *Condition) Holds(s *State) bool { return c.holds(s, time.Time{}) }

// spell gives field what tells a state operation from another.
func (s *StateOp) spell(field func([]byte)) {
	session := s.Session
	if s.carried {
		session = "" // nobody asked for it, and it may be another by the next try
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

// valueDigest is the same for values that are equal, and for no others.
type valueDigest [sha256.Size]byte

func newValueDigest(value []byte) (digest valueDigest) {
	v, err := jsonvalue.Parse(value)
	if err != nil {
		return sha256.Sum256(value) // it comes past Publish; as text it is like itself
	}
	return sha256.Sum256(v.Canonical(nil))
}

// ValueDigest is the same for JSON texts of equal values, and for no others.
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
			digests[i] = newValueDigest(ops[i].State.Value)
		}
	}
	return digests
}

// stateTable is what a log in memory decides state operations by.
type stateTable struct {
	byName map[string]*stateRow
	count  int // of values, without facts
	bytes  int // of them
}

type stateRow struct {
	State
	digest valueDigest
}

func rowBytes(name string, value []byte) int { return len(name) + len(value) }

// of is the state of a channel, the zero State if it has none.
func (t *stateTable) of(name string) *State {
	if row := t.byName[name]; row != nil {
		return &row.State
	}
	return &State{}
}

// decide does op, which would get the id next, and returns what its entry
// sets; with r.Unchanged there is none. Where it is refused, r.Err says so.
func (t *stateTable) decide(op *Op, digest valueDigest, next ID, now time.Time, r *Result) *StateEntry {
	s, row := op.State, t.byName[op.Channel]
	if old := t.of(op.Channel); !s.If.holds(old, now) || s.Value == nil && old.Value == nil {
		r.Err = ErrStateMismatch
		current := *old
		r.State = &current
		return nil
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
	case row.digest == digest && row.Session == s.Session:
		row.Written, r.Unchanged = written, true
		return nil
	default:
		grows -= rowBytes(op.Channel, row.Value)
	}
	// A value that does not grow is taken also where the bounds have shrunk.
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
		State:  State{Value: s.Value, Version: next, Session: strings.Clone(s.Session), Written: written},
		digest: digest,
	}
	return &StateEntry{Value: s.Value, Session: s.Session}
}

// charge counts a value in, or out. Facts have a bound of their own.
func (t *stateTable) charge(name string, count, size int) {
	if !isFact(name) {
		t.count += count
		t.bytes += size
	}
}

// entries are the values as a follower is told of them at first.
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
