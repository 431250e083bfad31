package codec

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// The encoding of an entry: a byte of version, a byte of kind, and for version 1
//
//	event, notice   channel, flags, those of type, id, retry, except and filter
//	                that have a flag, and the data up to the end
//	purge           channel
//	close           channel, for how many milliseconds, 0 or 1, and with 1 the last
//	                event, as above from the flags on
//	state           channel, flags, the session if it has a flag, and the value,
//	                if it has a flag, up to the end
//	255             the name of a stream, up to the end
//
// A filter is two lists, of whom it is to and whom not, each preceded by its length.
// Strings are preceded by their length; lengths and numbers are varints.

// KindStream is the kind of an entry that names a new stream. A broker never gets
// one.
const KindStream broker.Kind = 255

// Flags of events.
const (
	hasType = 1 << iota
	hasID
	hasRetry
	hasExcept
	hasFilter
	eventFlags = hasType | hasID | hasRetry | hasExcept | hasFilter
)

// Flags of state.
const (
	hasSession = 1 << iota
	hasValue
	stateFlags = hasSession | hasValue
)

// Encode returns the entry of op, for KindState without the value, which
// append.lua appends.
func Encode(op *broker.Op) []byte {
	e := &op.Event
	size := 2 + 2 + len(op.Channel) + 2 + 5*binary.MaxVarintLen32 + len(e.Type) + len(e.ID) + len(op.Except) + len(e.Data)
	if op.State != nil {
		size += len(op.State.Session)
	}
	b := append(make([]byte, 0, size), broker.EntryVersion, byte(op.Kind))
	b = appendText(b, op.Channel)
	switch op.Kind {
	case broker.KindPurge:
		return b
	case broker.KindState:
		return appendState(b, op.State)
	case broker.KindClose:
		b = binary.AppendUvarint(b, uint64(op.Close.For/time.Millisecond))
		if !op.Close.Event {
			return append(b, 0)
		}
		b = append(b, 1)
	}
	return appendEvent(b, op)
}

// appendEvent appends an event, from its flags on.
func appendEvent(b []byte, op *broker.Op) []byte {
	e := &op.Event
	at := len(b)
	b = append(b, 0)
	if e.Type != "" {
		b[at] |= hasType
		b = appendText(b, e.Type)
	}
	if e.ID != "" {
		b[at] |= hasID
		b = appendText(b, e.ID)
	}
	if e.Retry != 0 {
		b[at] |= hasRetry
		b = binary.AppendUvarint(b, uint64(e.Retry))
	}
	if op.Except != "" {
		b[at] |= hasExcept
		b = appendText(b, op.Except)
	}
	if op.Filter != nil {
		b[at] |= hasFilter
		b = appendTexts(b, op.Filter.To)
		b = appendTexts(b, op.Filter.Except)
	}
	return append(b, e.Data...)
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendState(b []byte, s *broker.StateOp) []byte {
	at := len(b)
	b = append(b, 0)
	if s.Value != nil {
		b[at] |= hasValue
		if s.Session != "" {
			b[at] |= hasSession
			b = appendText(b, s.Session)
		}
	}
	return b
}

// StateTail is how long the end of the entry of a state operation is, after the channel and
// before the value. A log that binds values makes it anew, because
// only that knows all sessions that the value is bound to.
func StateTail(s *broker.StateOp) int { return len(appendState(nil, s)) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decode is the inverse of Encode. An entry of an unknown version or kind keeps
// those, and one that is damaged has no kind, so that a broker skips and counts
// both. The entry holds copies, because a broker keeps names for longer than data.
func Decode(id broker.ID, e string) broker.Entry {
	if len(e) < 2 {
		return broker.Entry{ID: id, Version: broker.EntryVersion}
	}
	entry := broker.Entry{ID: id, Version: e[0], Kind: broker.Kind(e[1])}
	if entry.Version > broker.EntryVersion {
		return entry
	}
	r := reader{rest: e[2:]}
	switch entry.Kind {
	case broker.KindEvent, broker.KindNotice:
		entry.Channel = strings.Clone(r.text())
		r.event(&entry)
	case broker.KindPurge:
		entry.Channel = strings.Clone(r.text())
		r.bad = r.bad || r.rest != ""
	case broker.KindState:
		r.state(&entry)
	case broker.KindClose:
		r.close(&entry)
	case KindStream:
		entry.Channel = strings.Clone(r.rest)
	}
	if r.bad || entry.Version < 1 {
		return broker.Entry{ID: id, Version: broker.EntryVersion}
	}
	return entry
}

// reader decodes an entry from its beginning to its end.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) event(entry *broker.Entry) {
	flags := r.flags(eventFlags)
	if flags&hasType != 0 {
		entry.Event.Type = strings.Clone(r.text())
	}
	if flags&hasID != 0 {
		entry.Event.ID = strings.Clone(r.text())
	}
	if flags&hasRetry != 0 {
		n := r.number()
		r.bad = r.bad || n > sse.MaxRetry
		entry.Event.Retry = int64(n)
	}
	if flags&hasExcept != 0 {
		entry.Except = strings.Clone(r.text())
	}
	if flags&hasFilter != 0 {
		entry.Filter = &broker.Filter{To: r.texts(), Except: r.texts()}
	}
	if !r.bad {
		entry.Event.Data = []byte(r.rest)
	}
}

func (r *reader) close(entry *broker.Entry) {
	entry.Channel = strings.Clone(r.text())
	lasting := r.number()
	r.bad = r.bad || lasting > maxLasting
	entry.Close = &broker.CloseEntry{For: time.Duration(lasting) * time.Millisecond, Event: r.flags(1) == 1}
	if entry.Close.Event {
		r.event(entry)
	} else {
		r.bad = r.bad || r.rest != ""
	}
}

// maxLasting is the longest time that an entry can name, in milliseconds.
const maxLasting = uint64(math.MaxInt64 / time.Millisecond)

func (r *reader) state(entry *broker.Entry) {
	entry.Channel = strings.Clone(r.text())
	flags := r.flags(stateFlags)
	entry.State = &broker.StateEntry{}
	if flags&hasSession != 0 {
		entry.State.Session = strings.Clone(r.text())
	}
	if flags&hasValue != 0 {
		entry.State.Value = []byte(r.rest)
	} else {
		r.bad = r.bad || r.rest != ""
	}
}

func (r *reader) number() uint64 {
	// Like binary.Uvarint, which takes bytes.
	var n uint64
	for i := range min(len(r.rest), binary.MaxVarintLen64) {
		c := r.rest[i]
		if c >= 0x80 {
			n |= uint64(c&0x7f) << (7 * i)
			continue
		}
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		r.rest = r.rest[i+1:]
		return n | uint64(c)<<(7*i)
	}
	r.bad = true
	return 0
}

func (r *reader) text() string {
	n := r.number()
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) texts() (list []string) {
	for n := r.number(); n > 0 && !r.bad; n-- {
		list = append(list, strings.Clone(r.text())) // of a number that is too large the rest is bad soon
	}
	return list
}

func (r *reader) flags(known byte) byte {
	if r.rest == "" || r.rest[0]&^known != 0 {
		r.bad = true
		return 0
	}
	flags := r.rest[0]
	r.rest = r.rest[1:]
	return flags
}
