package jsonvalue

import "bytes"

// Equal reports whether a and b are the same value: objects in whatever order their
// members are, numbers and strings however they are written.
func Equal(a, b *Value) bool {
	if a == b {
		return true
	}
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.members) != len(b.members) {
		return false
	}
	switch a.kind {
	case '{':
		return equalMembers(a, b)
	case '[':
		for i := range a.items {
			if !Equal(a.items[i], b.items[i]) {
				return false
			}
		}
		return true
	case '"':
		return bytes.Equal(a.raw, b.raw) || escapes(a, b) && decode(a.raw) == decode(b.raw)
	case '0':
		if bytes.Equal(a.raw, b.raw) {
			return true
		}
		m, _ := parseNumber(a.raw) // they were checked
		n, _ := parseNumber(b.raw)
		return m.negative == n.negative && m.exp == n.exp && bytes.Equal(m.digits, n.digits)
	}
	return true
}

// equalMembers compares objects that have as many members.
func equalMembers(a, b *Value) bool {
	var others map[string]*Value // of b, from where they stand in another order
	for i := range a.members {
		m := &a.members[i]
		other := b.members[i].value
		if others != nil || m.key != b.members[i].key {
			if others == nil {
				others = index(b)
			}
			other = others[m.key]
		}
		if other == nil || !Equal(m.value, other) {
			return false
		}
	}
	return true
}

// escapes reports whether two strings that are written differently may be equal.
func escapes(a, b *Value) bool {
	return bytes.IndexByte(a.raw, '\\') >= 0 || bytes.IndexByte(b.raw, '\\') >= 0
}
