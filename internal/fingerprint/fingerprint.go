// Package fingerprint tells whether two values were configured alike.
package fingerprint

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Sum is a digest of what configured a value. It is not reversible, so it may be
// kept where secrets may not.
type Sum [sha256.Size]byte

// Options change what a Sum depends on.
type Options struct {
	// Ignore reports whether a field of a struct does not count; nil ignores none.
	Ignore func(in reflect.Type, field string) bool
	// Also returns what a module stands for beside its own configuration, such as
	// a route that it names, or nil.
	Also func(module any) any
}

// maxValues bounds how much is looked at: what is beyond does not count.
const maxValues = 1 << 20

// Of returns the Sum of values: of their exported fields, as in JSON. A field that
// JSON leaves out counts as far as it holds loaded modules or plain data, since
// Caddy clears the JSON of a module once it has loaded it. Pointers, functions and
// chans in such a field are what the value has at run time, and do not count.
func (o Options) Of(values ...any) (sum Sum) {
	w := walker{Options: o, to: sha256.New(), within: make(map[pointer]bool), left: maxValues}
	for _, v := range values {
		w.value(reflect.ValueOf(v))
	}
	w.to.Sum(sum[:0])
	return sum
}

type walker struct {
	Options
	to     hash.Hash
	within map[pointer]bool // those that lead to the current value, which may hold itself
	left   int
}

// pointer is a pointer to a type: a struct and its first field have one address.
type pointer struct {
	of reflect.Type
	to uintptr
}

// text writes a string and its length, so that no two sequences are written alike.
func (w *walker) text(s string) {
	_ = binary.Write(w.to, binary.BigEndian, uint32(len(s)))
	_, _ = w.to.Write([]byte(s))
}

// value writes v, which is configuration.
func (w *walker) value(v reflect.Value) {
	if w.left--; w.left < 0 || !v.IsValid() {
		w.text("none")
		return
	}
	w.text(v.Type().String())
	switch v.Kind() {
	case reflect.Interface:
		w.value(v.Elem())
	case reflect.Pointer:
		at := pointer{v.Type(), v.Pointer()}
		if v.IsNil() || w.within[at] {
			w.text("nil")
			return
		}
		w.within[at] = true
		defer delete(w.within, at)
		if w.Also != nil && v.CanInterface() {
			if more := w.Also(v.Interface()); more != nil {
				w.value(reflect.ValueOf(more))
			}
		}
		w.value(v.Elem())
	case reflect.Struct:
		w.fields(v)
	case reflect.Slice, reflect.Array:
		w.elements(v, w.value)
	case reflect.Map:
		w.entries(v, w.value)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
	default:
		w.text(fmt.Sprint(v))
	}
}

// fields writes the fields of a struct. One without exported fields is written as it
// is encoded.
func (w *walker) fields(v reflect.Value) {
	exported := false
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		exported = true
		if w.Ignore != nil && w.Ignore(v.Type(), field.Name) {
			continue
		}
		w.text(field.Name)
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name == "-" {
			w.loaded(v.Field(i))
		} else {
			w.value(v.Field(i))
		}
	}
	if exported || !v.CanInterface() {
		return
	}
	switch m := v.Interface().(type) {
	case encoding.TextMarshaler:
		b, _ := m.MarshalText()
		w.text(string(b))
	case json.Marshaler:
		b, _ := m.MarshalJSON()
		w.text(string(b))
	}
}

// loaded writes v, which JSON leaves out, as far as it is modules or plain data.
func (w *walker) loaded(v reflect.Value) {
	if w.left--; w.left < 0 {
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		if _, ok := v.Elem().Type().MethodByName("CaddyModule"); ok {
			w.value(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		w.elements(v, w.loaded)
	case reflect.Map:
		w.entries(v, w.loaded)
	case reflect.Struct:
		w.fields(v)
	case reflect.Pointer, reflect.Func, reflect.Chan, reflect.UnsafePointer:
	default:
		w.text(fmt.Sprint(v))
	}
}

// elements writes a list.
func (w *walker) elements(v reflect.Value, write func(reflect.Value)) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		w.text(fmt.Sprintf("%x", v))
		return
	}
	w.text(fmt.Sprint(v.Len()))
	for i := range v.Len() {
		write(v.Index(i))
	}
}

// entries writes a map in the order of its keys.
func (w *walker) entries(v reflect.Value, write func(reflect.Value)) {
	byKey := make(map[string]reflect.Value, v.Len())
	for _, key := range v.MapKeys() {
		byKey[fmt.Sprint(key)] = v.MapIndex(key)
	}
	w.text(fmt.Sprint(len(byKey)))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		w.text(key)
		write(byKey[key])
	}
}
