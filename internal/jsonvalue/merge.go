package jsonvalue

import "slices"

// Merge applies a merge patch (RFC 7396) to target, which is nil if there is no value
// yet. It modifies neither.
func Merge(target, patch *Value) *Value {
	if patch.kind != '{' {
		return patch
	}
	merged := &Value{kind: '{'}
	if target != nil && target.kind == '{' {
		merged.members = slices.Clone(target.members)
	}
	places := map[string]int{} // of members, in merged
	for i := range merged.members {
		places[merged.members[i].key] = i
	}
	for _, m := range patch.members {
		i, known := places[m.key]
		switch {
		case m.value.kind == 'n':
			if known {
				merged.members[i].value = nil // taken out below
			}
		case known:
			merged.members[i].value = Merge(merged.members[i].value, m.value)
		default:
			merged.members = append(merged.members, member{m.key, m.raw, Merge(nil, m.value)})
		}
	}
	merged.members = slices.DeleteFunc(merged.members, func(m member) bool { return m.value == nil })
	return merged
}

// MergeDiff is a merge patch from old to new. It is nil if there is none: the values
// are not both objects, or new has a null, which a merge patch cannot set.
func MergeDiff(old, changed *Value) *Value {
	if old.kind != '{' || changed.kind != '{' {
		return nil
	}
	patch := &Value{kind: '{'}
	before := index(old)
	for _, m := range changed.members {
		was := before[m.key]
		switch {
		case was != nil && was.kind == '{' && m.value.kind == '{':
			inner := MergeDiff(was, m.value)
			if inner == nil {
				return nil
			}
			if len(inner.members) > 0 { // else they are equal
				patch.members = append(patch.members, member{m.key, m.raw, inner})
			}
		case was != nil && Equal(was, m.value):
		case m.value.setsNull():
			return nil
		default:
			patch.members = append(patch.members, m)
		}
	}
	after := index(changed)
	for _, m := range old.members {
		if after[m.key] == nil {
			patch.members = append(patch.members, member{m.key, m.raw, &Value{kind: 'n', raw: []byte("null")}})
		}
	}
	return patch
}

// setsNull reports whether v, in a merge patch, would remove a member instead of
// setting it. Arrays are set as they are.
func (v *Value) setsNull() bool {
	return v.kind == 'n' || slices.ContainsFunc(v.members, func(m member) bool { return m.value.setsNull() })
}

// index is the members of v by their names.
func index(v *Value) map[string]*Value {
	byKey := make(map[string]*Value, len(v.members))
	for i := range v.members {
		byKey[v.members[i].key] = v.members[i].value
	}
	return byKey
}
