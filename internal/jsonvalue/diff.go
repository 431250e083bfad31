package jsonvalue

import "strconv"

// Diff is a JSON patch (RFC 6902) from old to changed; nil if it would have limit
// bytes or more. Objects are compared by member, arrays from both ends: the patch is
// short if the change is small, but not always the shortest one.
func Diff(old, changed *Value, limit int) []byte {
	d := differ{out: []byte{'['}, limit: limit}
	if !d.diff(old, changed) || len(d.out)+1 >= limit {
		return nil
	}
	return append(d.out, ']')
}

// differ writes a patch. Its methods return false when that is over the limit: each
// operation has its whole path, so that a patch may be far longer than both values.
type differ struct {
	out   []byte
	path  []byte // a JSON pointer
	limit int
}

func (d *differ) diff(old, changed *Value) bool {
	switch {
	case old.kind == '{' && changed.kind == '{':
		return d.objects(old, changed)
	case old.kind == '[' && changed.kind == '[':
		return d.arrays(old, changed)
	}
	return Equal(old, changed) || d.op("replace", changed)
}

func (d *differ) objects(old, changed *Value) bool {
	before, after := index(old), index(changed)
	for _, m := range old.members {
		if after[m.key] == nil && !d.at(m.key, func() bool { return d.op("remove", nil) }) {
			return false
		}
	}
	for _, m := range changed.members {
		within := d.at(m.key, func() bool {
			if was := before[m.key]; was != nil {
				return d.diff(was, m.value)
			}
			return d.op("add", m.value)
		})
		if !within {
			return false
		}
	}
	return true
}

func (d *differ) arrays(old, changed *Value) bool {
	a, b := old.items, changed.items
	first := 0
	for first < min(len(a), len(b)) && Equal(a[first], b[first]) {
		first++
	}
	same := 0 // at the end
	for same < min(len(a), len(b))-first && Equal(a[len(a)-1-same], b[len(b)-1-same]) {
		same++
	}
	a, b = a[first:len(a)-same], b[first:len(b)-same]
	item := func(i int, f func() bool) bool { return d.at(strconv.Itoa(first+i), f) }
	for i := range min(len(a), len(b)) {
		if !item(i, func() bool { return d.diff(a[i], b[i]) }) {
			return false
		}
	}
	for i := len(a) - 1; i >= len(b); i-- {
		if !item(i, func() bool { return d.op("remove", nil) }) {
			return false
		}
	}
	for i := len(a); i < len(b); i++ {
		if !item(i, func() bool { return d.op("add", b[i]) }) {
			return false
		}
	}
	return true
}

// at calls f with the path that goes on with token.
func (d *differ) at(token string, f func() bool) bool {
	n := len(d.path)
	d.path = appendToken(d.path, token)
	within := f()
	d.path = d.path[:n]
	return within
}

func (d *differ) op(name string, value *Value) bool {
	if len(d.out)+len(d.path) >= d.limit {
		return false
	}
	if len(d.out) > 1 {
		d.out = append(d.out, ',')
	}
	d.out = append(append(append(d.out, `{"op":"`...), name...), `","path":`...)
	d.out = append(d.out, Quote(string(d.path))...)
	if value != nil {
		d.out = append(d.out, `,"value":`...)
		d.out = value.Append(d.out)
	}
	d.out = append(d.out, '}')
	return len(d.out) < d.limit
}
