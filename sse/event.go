// Package sse is the wire format of server-sent events: one event to bytes,
// and bytes to events, as the WHATWG HTML standard (§9.2) defines them.
//
// It knows nothing of channels, clocks or HTTP.
package sse

import (
	"unicode"
	"unicode/utf8"
)

// MaxID is the longest id in bytes. A client sends it back in a header field, beside
// others, of which servers and proxies take a few KiB.
const MaxID = 4 << 10

// MaxRetry is the longest reconnection time an Event may ask for, in milliseconds.
const MaxRetry = 24 * 60 * 60 * 1000

// Event is one server-sent event. The zero value is an event of type
// "message" with empty data.
type Event struct {
	// Type is the name that a browser dispatches the event under. Empty and
	// "message" are the same, and put no event line on the wire.
	Type string

	// ID is the event's id field. Empty puts no id line on the wire, so that
	// the reader keeps the last event id it has.
	ID string

	// Retry asks the reader to wait this many milliseconds before it
	// reconnects; 0 asks for nothing.
	Retry int64

	// Data travels verbatim, but for its line ends: CR LF and CR reach the
	// reader as LF.
	Data []byte
}

// Errors of Event.Validate, matched with errors.Is.
var (
	ErrType  error = &eventError{"event type must be UTF-8 text without control characters, and without white space at either end"}
	ErrID    error = &eventError{"event id must be UTF-8 text of at most 4096 bytes without control characters, and without white space at either end: what else it has would not come back in Last-Event-ID"}
	ErrData  error = &eventError{"event data must be UTF-8 text"}
	ErrRetry error = &eventError{"retry must be a whole number of milliseconds from 1 to 86400000"}
)

// eventError says what is wrong with an event.
type eventError struct{ text string }

func (e *eventError) Error() string { return e.text }

// ProblemKind is the kind of problem of RFC 9457 that a client is told.
func (e *eventError) ProblemKind() string { return "bad-event" }

// Validate reports the first field of e that cannot travel as it is.
func (e *Event) Validate() error {
	switch {
	case !travels(e.Type):
		return ErrType
	case len(e.ID) > MaxID || !travels(e.ID):
		return ErrID
	case e.Retry < 0 || e.Retry > MaxRetry:
		return ErrRetry
	case !utf8.Valid(e.Data):
		return ErrData
	}
	return nil
}

// travels reports whether s comes back as it is: it can stand in one field of a stream,
// and an id also as the value of a header field. HTTP refuses control characters there
// and trims spaces and tabs; scripts trim what Unicode calls white space, and some
// clients end a line where Unicode does.
func travels(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for i, r := range s {
		switch {
		case r < ' ' || r == 0x7F:
			return false
		case r == ' ' || r >= 0x80 && (unicode.IsSpace(r) || r == '\uFEFF'):
			if i == 0 || i+utf8.RuneLen(r) == len(s) {
				return false
			}
			fallthrough
		case r >= 0x80:
			if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
				return false
			}
		}
	}
	return true
}
