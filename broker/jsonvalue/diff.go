package jsonvalue

import "strconv"

// Diff appends a JSON patch (RFC 6902) that makes changed of old. Objects are
// compared by member, arrays from both ends: it is right, and short where the
// change is small, but not the shortest there is.
func Diff(dst []byte, old, changed *Value) []byte {
	d := differ{out: append(dst, '[')}
	d.diff(old, changed)
	return append(d.out, ']')
}

type differ struct {
	out  []byte
	path []string
	any  bool
}

func (d *differ) diff(old, changed *Value) {
	switch {
	case old.kind == '{' && changed.kind == '{':
		d.objects(old, changed)
	case old.kind == '[' && changed.kind == '[':
		d.arrays(old, changed)
	case !Equal(old, changed):
		d.op("replace", changed)
	}
}

func (d *differ) objects(old, changed *Value) {
	before, after := index(old), index(changed)
	for _, m := range old.members {
		if after[m.key] == nil {
			d.at(m.key, func() { d.op("remove", nil) })
		}
	}
	for _, m := range changed.members {
		d.at(m.key, func() {
			if was := before[m.key]; was != nil {
				d.diff(was, m.value)
			} else {
				d.op("add", m.value)
			}
		})
	}
}

func (d *differ) arrays(old, changed *Value) {
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
	for i := range min(len(a), len(b)) {
		d.at(strconv.Itoa(first+i), func() { d.diff(a[i], b[i]) })
	}
	for i := len(a) - 1; i >= len(b); i-- {
		d.at(strconv.Itoa(first+i), func() { d.op("remove", nil) })
	}
	for i := len(a); i < len(b); i++ {
		d.at(strconv.Itoa(first+i), func() { d.op("add", b[i]) })
	}
}

func (d *differ) at(token string, f func()) {
	d.path = append(d.path, token)
	f()
	d.path = d.path[:len(d.path)-1]
}

func (d *differ) op(name string, value *Value) {
	if d.any {
		d.out = append(d.out, ',')
	}
	d.any = true
	d.out = append(append(append(d.out, `{"op":"`...), name...), `","path":`...)
	d.out = append(d.out, Quote(pointer(d.path))...)
	if value != nil {
		d.out = append(d.out, `,"value":`...)
		d.out = value.Append(d.out)
	}
	d.out = append(d.out, '}')
}
