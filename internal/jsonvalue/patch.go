package jsonvalue

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a patch.
const (
	// MaxOperations is how many operations one JSON patch may have.
	MaxOperations = 1000
	// maxGrowth bounds the bytes that all operations of a patch add together: the
	// value would else double with each one that copies the whole into itself.
	maxGrowth = 256 << 10
)

// Errors of a Patch, wrapped in a *PatchError.
var (
	// ErrPatch: it is not a JSON patch.
	ErrPatch = errors.New("not a JSON patch")
	// ErrMissing: the value has nothing at the path, or something of another type
	// on the way.
	ErrMissing = errors.New("the patch does not fit the value")
	// ErrTest: an operation "test" found another value.
	ErrTest = errors.New("a test of the patch failed")
)

// PatchError says where a patch failed.
type PatchError struct {
	Op   int    // the operation, from 0; -1 if it is about the patch as a whole
	Path string // a JSON pointer, as the operation has it
	Err  error
}

func (e *PatchError) Error() string {
	if e.Op < 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("operation %d, path %q: %s", e.Op, clip(e.Path), e.Err)
}

func (e *PatchError) Unwrap() error { return e.Err }

// Patch is a JSON patch (RFC 6902).
type Patch struct {
	ops []operation
}

type operation struct {
	op         string
	path, from string // as they are written
	at, source []string
	value      *Value
}

// ParsePatch reads a JSON patch. Its error is ErrSyntax, ErrBounds or a
// *PatchError.
func ParsePatch(text []byte) (*Patch, error) {
	v, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if v.kind != '[' {
		return nil, &PatchError{Op: -1, Err: fmt.Errorf("%w: it is an array of operations", ErrPatch)}
	}
	if len(v.items) > MaxOperations {
		return nil, fmt.Errorf("%w: the patch has more than %d operations", ErrBounds, MaxOperations)
	}
	p := &Patch{ops: make([]operation, len(v.items))}
	for i, item := range v.items {
		o := &p.ops[i]
		if err := o.read(item); err != nil {
			return nil, &PatchError{i, o.path, fmt.Errorf("%w: %w", ErrPatch, err)}
		}
	}
	return p, nil
}

// read reads an operation. Members that it does not know are ignored, as the
// RFC says.
func (o *operation) read(v *Value) error {
	if v.kind != '{' {
		return errors.New("an operation is an object")
	}
	text := func(name string, to *string) error {
		i := v.find(name)
		if i < 0 {
			return fmt.Errorf("there is no %q", name)
		}
		if v.members[i].value.kind != '"' {
			return fmt.Errorf("%q is a string", name)
		}
		*to = decode(v.members[i].value.raw)
		return nil
	}
	err := text("path", &o.path)
	if err == nil {
		err = text("op", &o.op)
	}
	if err == nil {
		o.at, err = parsePointer(o.path)
	}
	if err != nil {
		return err
	}
	switch o.op {
	case "add", "replace", "test":
		i := v.find("value")
		if i < 0 {
			return fmt.Errorf("%s has a \"value\", and there is none", o.op)
		}
		o.value = v.members[i].value
	case "move", "copy":
		if err := text("from", &o.from); err != nil {
			return err
		}
		if o.source, err = parsePointer(o.from); err != nil {
			return err
		}
		if o.op == "move" && len(o.at) > len(o.source) && slices.Equal(o.at[:len(o.source)], o.source) {
			return errors.New("nothing can be moved into itself")
		}
	case "remove":
	default:
		return fmt.Errorf("%q is no operation, only add, remove, replace, move, copy and test are", clip(o.op))
	}
	return nil
}

// parsePointer reads a JSON pointer (RFC 6901).
func parsePointer(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != '/' {
		return nil, fmt.Errorf("the path %q does not begin with /", clip(s))
	}
	tokens := strings.Split(s[1:], "/")
	for i, token := range tokens {
		for j := range len(token) {
			if token[j] == '~' && (j+1 == len(token) || token[j+1] != '0' && token[j+1] != '1') {
				return nil, fmt.Errorf("in the path %q a ~ is neither ~0 nor ~1", clip(s))
			}
		}
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
	}
	return tokens, nil
}

// Apply returns doc with all of the patch applied. It does not modify doc. The error
// is a *PatchError, or wraps ErrBounds if the result grows too large.
func (p *Patch) Apply(doc *Value) (*Value, error) {
	root := doc.clone()
	growth := 0
	for i := range p.ops {
		o := &p.ops[i]
		next, added, err := o.apply(root)
		if err != nil {
			return nil, &PatchError{i, o.path, err}
		}
		if added != nil {
			if growth += len(added.Append(nil)); growth > maxGrowth {
				return nil, &PatchError{i, o.path, fmt.Errorf("%w: the patch adds more than %d bytes", ErrBounds, maxGrowth)}
			}
		}
		root = next
	}
	if err := root.Check(); err != nil {
		return nil, err
	}
	return root, nil
}

// apply does one operation. It modifies root and returns it, or what replaces it, and
// the value that was added.
func (o *operation) apply(root *Value) (next, added *Value, err error) {
	switch o.op {
	case "test":
		v, err := root.get(o.at)
		if err == nil && !Equal(v, o.value) {
			err = fmt.Errorf("%w: the value is %s", ErrTest, clip(v.String()))
		}
		return root, nil, err
	case "remove":
		if len(o.at) == 0 {
			return nil, nil, fmt.Errorf("%w: the whole value cannot be removed by a patch, only by DELETE", ErrMissing)
		}
		return root, nil, root.remove(o.at)
	case "replace":
		if len(o.at) > 0 {
			if _, err := root.get(o.at); err != nil {
				return nil, nil, err
			}
		}
		v := o.value.clone()
		next, err = root.put(o.at, v, true)
		return next, v, err
	case "add":
		v := o.value.clone()
		next, err = root.put(o.at, v, false)
		return next, v, err
	}
	v, err := root.get(o.source)
	if err != nil {
		return nil, nil, fmt.Errorf("from %q: %w", clip(o.from), err)
	}
	if o.op == "copy" {
		v = v.clone()
		next, err = root.put(o.at, v, false)
		return next, v, err
	}
	if slices.Equal(o.at, o.source) {
		return root, nil, nil
	}
	if err := root.remove(o.source); err != nil { // the source is not the whole: that was refused
		return nil, nil, err
	}
	next, err = root.put(o.at, v, false)
	return next, nil, err
}

// get is the value at a path.
func (v *Value) get(path []string) (*Value, error) {
	for i, token := range path {
		switch v.kind {
		case '{':
			j := v.find(token)
			if j < 0 {
				return nil, missing(path[:i+1])
			}
			v = v.members[j].value
		case '[':
			j, err := v.place(path[:i+1], false)
			if err != nil {
				return nil, err
			}
			v = v.items[j]
		default:
			return nil, fmt.Errorf("%w: %s is no object and no array", ErrMissing, where(path[:i]))
		}
	}
	return v, nil
}

func missing(path []string) error {
	return fmt.Errorf("%w: there is no %s", ErrMissing, where(path))
}

// place reads the last token of a path as an index of the array v. The end of
// the array is a place to add at.
func (v *Value) place(path []string, add bool) (int, error) {
	token := path[len(path)-1]
	if add && token == "-" {
		return len(v.items), nil
	}
	n, err := strconv.ParseUint(token, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != token {
		return 0, fmt.Errorf("%w: %s is not a place in an array", ErrMissing, where(path))
	}
	if last := len(v.items); int(n) > last || int(n) == last && !add {
		return 0, missing(path)
	}
	return int(n), nil
}

// put sets or inserts a value at a path, and returns the new root.
func (v *Value) put(path []string, put *Value, replace bool) (*Value, error) {
	if len(path) == 0 {
		return put, nil
	}
	parent, err := v.get(path[:len(path)-1])
	if err != nil {
		return nil, err
	}
	token := path[len(path)-1]
	switch parent.kind {
	case '{':
		if i := parent.find(token); i >= 0 {
			parent.members[i].value = put
		} else {
			parent.members = append(parent.members, member{token, Quote(token), put})
		}
	case '[':
		i, err := parent.place(path, !replace)
		if err != nil {
			return nil, err
		}
		if replace {
			parent.items[i] = put
		} else {
			parent.items = slices.Insert(parent.items, i, put)
		}
	default:
		return nil, fmt.Errorf("%w: %s is no object and no array", ErrMissing, where(path[:len(path)-1]))
	}
	return v, nil
}

// remove removes the value at a path, which must not be the root.
func (v *Value) remove(path []string) error {
	parent, err := v.get(path[:len(path)-1])
	if err != nil {
		return err
	}
	if _, err := parent.get(path[len(path)-1:]); err != nil {
		return missing(path)
	}
	if parent.kind == '{' {
		i := parent.find(path[len(path)-1])
		parent.members = slices.Delete(parent.members, i, i+1)
	} else {
		i, _ := parent.place(path, false)
		parent.items = slices.Delete(parent.items, i, i+1)
	}
	return nil
}
