// Package jsonvalue reads, compares and changes JSON values, and keeps how they are
// written: a number all its digits, an object the order of its members, a string its
// escapes. No number becomes a float64.
//
// Values are bounded in depth and in members. The caller has to bound their size,
// before and after a change.
package jsonvalue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Bounds of what is read.
const (
	// MaxDepth is how deep arrays and objects may be nested.
	MaxDepth = 64
	// MaxMembers is how many members one object may have.
	MaxMembers = 4096
	// maxExponent bounds the exponent of a number: ten bytes could else stand for
	// a number that takes a gigabyte.
	maxExponent = 1_000_000_000
)

// ErrSyntax is wrapped by errors about text that is not JSON, or is ambiguous: it has
// a member twice, or half a surrogate pair.
var ErrSyntax = errkind.New("bad-state", "", "not JSON that can be kept")

// ErrBounds is wrapped by errors about JSON that is over a bound.
var ErrBounds = errkind.New("unprocessable", "", "the value is over a bound")

// Value is a JSON value. Methods that modify it are not safe for concurrent use; the
// others are.
type Value struct {
	kind    byte // of '{', '[', '"', '0', 't', 'f' and 'n'
	raw     []byte
	members []member // of an object
	items   []*Value // of an array
}

type member struct {
	key   string // decoded
	raw   []byte // as it is written, with its quotes
	value *Value
}

// SizeError says that JSON text is too long, without its white space.
type SizeError struct{ Size, Limit int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("%d bytes, at most %d are allowed", e.Size, e.Limit)
}

// Compact checks JSON text and removes its white space. If the result has more than
// limit bytes the error is a *SizeError; else it wraps ErrSyntax or ErrBounds. The
// result shares no memory with text.
func Compact(text []byte, limit int) ([]byte, error) {
	compact, err := squeeze(text)
	if err != nil {
		return nil, err
	}
	if len(compact) > limit {
		return nil, &SizeError{len(compact), limit}
	}
	_, err = read(compact)
	return compact, err
}

// Parse reads JSON text, all of it. The value takes up to about 50 times the memory of
// the text.
func Parse(text []byte) (*Value, error) {
	compact, err := squeeze(text)
	if err != nil {
		return nil, err
	}
	return read(compact)
}

// squeeze takes the white space out of JSON text, and checks its syntax.
func squeeze(text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: it is not UTF-8 text", ErrSyntax)
	}
	if len(bytes.TrimLeft(text, " \t\r\n")) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrSyntax)
	}
	var b bytes.Buffer
	b.Grow(len(text))
	if err := json.Compact(&b, text); err != nil {
		var raw json.RawMessage
		if at, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(text, &raw)); ok { // it knows the place
			return nil, fmt.Errorf("%w: malformed at byte %d: %w", ErrSyntax, at.Offset, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return b.Bytes(), nil
}

// read reads what squeeze has checked.
func read(compact []byte) (*Value, error) {
	p := parser{rest: compact}
	return p.value(0)
}

// parser reads text that is known to be JSON without white space.
type parser struct {
	rest []byte
	path []string // of the value that is read
}

func (p *parser) value(depth int) (*Value, error) {
	c := p.rest[0]
	if depth == MaxDepth && (c == '{' || c == '[') {
		return nil, fmt.Errorf("%w: it is more than %d levels deep", ErrBounds, MaxDepth)
	}
	switch c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		raw := p.string()
		if HalfSurrogate(raw) {
			return nil, fmt.Errorf("%w: %s has half of a surrogate pair, which is no character", ErrSyntax, p.at())
		}
		return &Value{kind: '"', raw: raw}, nil
	case 't', 'f', 'n':
		n := len("true")
		if c == 'f' {
			n = len("false")
		}
		return &Value{kind: c, raw: p.take(n)}, nil
	}
	n := bytes.IndexAny(p.rest, ",]}")
	if n < 0 {
		n = len(p.rest)
	}
	v := &Value{kind: '0', raw: p.take(n)}
	if _, err := parseNumber(v.raw); err != nil {
		return nil, fmt.Errorf("%s: %w", p.at(), err)
	}
	return v, nil
}

func (p *parser) array(depth int) (*Value, error) {
	v := &Value{kind: '['}
	for p.take(1); p.rest[0] != ']'; p.comma() {
		p.path = append(p.path, strconv.Itoa(len(v.items)))
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
		p.path = p.path[:len(p.path)-1]
	}
	p.take(1)
	return v, nil
}

func (p *parser) object(depth int) (*Value, error) {
	v := &Value{kind: '{'}
	var seen map[string]bool // from the point where looking through members is slow
	for p.take(1); p.rest[0] != '}'; p.comma() {
		m := member{raw: p.string()}
		m.key = decode(m.raw)
		p.path = append(p.path, m.key)
		twice := seen[m.key]
		if seen == nil {
			twice = v.find(m.key) >= 0
		}
		switch {
		case twice:
			return nil, fmt.Errorf("%w: %s is there twice", ErrSyntax, p.at())
		case HalfSurrogate(m.raw):
			return nil, fmt.Errorf("%w: the name of %s has half of a surrogate pair, which is no character", ErrSyntax, p.at())
		case len(v.members) == MaxMembers:
			return nil, fmt.Errorf("%w: an object has more than %d members", ErrBounds, MaxMembers)
		case len(v.members) == 16:
			seen = map[string]bool{}
			for i := range v.members {
				seen[v.members[i].key] = true
			}
		}
		if seen != nil {
			seen[m.key] = true
		}
		p.take(1) // the colon
		var err error
		if m.value, err = p.value(depth + 1); err != nil {
			return nil, err
		}
		v.members = append(v.members, m)
		p.path = p.path[:len(p.path)-1]
	}
	p.take(1)
	return v, nil
}

// at is the path of the value that is being read, for errors.
func (p *parser) at() string { return where(p.path) }

func (p *parser) take(n int) []byte {
	taken := p.rest[:n:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *parser) comma() {
	if p.rest[0] == ',' {
		p.take(1)
	}
}

// string reads a string with its quotes.
func (p *parser) string() []byte {
	for i := 1; ; i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			return p.take(i + 1)
		}
	}
}

// decode is a JSON string without its quotes and escapes.
func decode(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it was checked
	return s
}

// Append appends v as text without white space.
func (v *Value) Append(dst []byte) []byte {
	switch v.kind {
	case '{':
		dst = append(dst, '{')
		for i := range v.members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, v.members[i].raw...)
			dst = append(dst, ':')
			dst = v.members[i].value.Append(dst)
		}
		return append(dst, '}')
	case '[':
		dst = append(dst, '[')
		for i, item := range v.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.Append(dst)
		}
		return append(dst, ']')
	}
	return append(dst, v.raw...)
}

// String is v as text without white space.
func (v *Value) String() string { return string(v.Append(nil)) }

// Check reports whether v is within the bounds of Parse. The result of a patch may
// not be.
func (v *Value) Check() error { return v.check(0) }

func (v *Value) check(depth int) error {
	if depth == MaxDepth && (v.kind == '{' || v.kind == '[') {
		return fmt.Errorf("%w: it is more than %d levels deep", ErrBounds, MaxDepth)
	}
	if len(v.members) > MaxMembers {
		return fmt.Errorf("%w: an object has more than %d members", ErrBounds, MaxMembers)
	}
	for i := range v.members {
		if err := v.members[i].value.check(depth + 1); err != nil {
			return err
		}
	}
	for _, item := range v.items {
		if err := item.check(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// Canonical appends a canonical form of v: it is the same for two values exactly if
// these are equal.
func (v *Value) Canonical(dst []byte) []byte {
	text := func(s string) {
		dst = strconv.AppendInt(append(dst, '"'), int64(len(s)), 10)
		dst = append(append(dst, ':'), s...)
	}
	switch v.kind {
	case '{':
		sorted := slices.Clone(v.members)
		slices.SortFunc(sorted, func(a, b member) int { return strings.Compare(a.key, b.key) })
		dst = append(dst, '{')
		for i := range sorted {
			text(sorted[i].key)
			dst = sorted[i].value.Canonical(dst)
		}
		return append(dst, '}')
	case '[':
		dst = append(dst, '[')
		for _, item := range v.items {
			dst = item.Canonical(dst)
		}
		return append(dst, ']')
	case '"':
		text(decode(v.raw))
		return dst
	case '0':
		n, _ := parseNumber(v.raw) // it was checked
		return n.canonical(dst)
	}
	return append(dst, v.kind)
}

// find is the index of a member, or -1.
func (v *Value) find(key string) int {
	return slices.IndexFunc(v.members, func(m member) bool { return m.key == key })
}

// clone is a copy of v that shares nothing that a patch could modify.
func (v *Value) clone() *Value {
	c := &Value{kind: v.kind, raw: v.raw, members: slices.Clone(v.members), items: slices.Clone(v.items)}
	for i := range c.members {
		c.members[i].value = c.members[i].value.clone()
	}
	for i := range c.items {
		c.items[i] = c.items[i].clone()
	}
	return c
}

// pointer is a path as a JSON pointer (RFC 6901).
func pointer(path []string) string {
	var s []byte
	for _, token := range path {
		s = appendToken(s, token)
	}
	return string(s)
}

// appendToken appends a token to a JSON pointer.
func appendToken(dst []byte, token string) []byte {
	dst = append(dst, '/')
	for i := range len(token) {
		switch token[i] {
		case '~':
			dst = append(dst, "~0"...)
		case '/':
			dst = append(dst, "~1"...)
		default:
			dst = append(dst, token[i])
		}
	}
	return dst
}

// where is a path, for errors.
func where(path []string) string {
	if len(path) == 0 {
		return "the value"
	}
	return clip(pointer(path))
}

// clip shortens text that an error quotes.
func clip(s string) string {
	if len(s) > 128 {
		return strings.ToValidUTF8(s[:128], "") + "…"
	}
	return s
}

// Quote writes a string as JSON, without the escapes that are meant for HTML.
func Quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always can be
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
