package broker

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// ID is an event id: a position in the one ordered log of a broker. It sorts
// by time and has the shape of a Redis stream id, "<milliseconds>-<n>".
type ID struct {
	// Ms is the time the log gave the id, in milliseconds since the Unix
	// epoch. It never decreases along the log, whatever the clock does.
	Ms uint64
	// N tells apart the entries of one millisecond.
	N uint64
}

// Compare returns -1, 0 or +1 as id is below, equal to or above other.
func (id ID) Compare(other ID) int {
	if c := cmp.Compare(id.Ms, other.Ms); c != 0 {
		return c
	}
	return cmp.Compare(id.N, other.N)
}

// After reports whether id is above other.
func (id ID) After(other ID) bool { return id.Compare(other) > 0 }

// latest is the higher of two ids.
func latest(a, b ID) ID {
	if a.After(b) {
		return a
	}
	return b
}

// IsZero reports whether id is the position before every log.
func (id ID) IsZero() bool { return id == ID{} }

// Time is when the log gave the id.
func (id ID) Time() time.Time { return time.UnixMilli(int64(id.Ms)) }

// AppendTo appends id as text to dst.
func (id ID) AppendTo(dst []byte) []byte {
	dst = strconv.AppendUint(dst, id.Ms, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, id.N, 10)
}

func (id ID) String() string { return string(id.AppendTo(make([]byte, 0, 32))) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return id.AppendTo(nil), nil }

// ParseID reads an id in its one spelling: two decimal numbers without sign
// or leading zeros, joined by a hyphen.
func ParseID(s string) (id ID, ok bool) {
	ms, n, found := strings.Cut(s, "-")
	if !found || !canonical(ms) || !canonical(n) {
		return ID{}, false
	}
	var err error
	if id.Ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return ID{}, false
	}
	if id.N, err = strconv.ParseUint(n, 10, 64); err != nil {
		return ID{}, false
	}
	return id, true
}

// LooksLikeID reports whether s has the shape of a position, whatever its
// numbers are. Publishers may not use such an id for an event of their own.
func LooksLikeID(s string) bool {
	ms, n, found := strings.Cut(s, "-")
	return found && digits(ms) && digits(n)
}

func canonical(s string) bool {
	return digits(s) && (len(s) == 1 || s[0] != '0') && len(s) <= 20
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
