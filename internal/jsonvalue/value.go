// Package jsonvalue reads, compares and changes JSON values without losing how
// they are written: a number keeps its digits, however many they are, an
// object the order of its members, a string its escapes. Nothing goes through
// a float64.
//
// Values are bounded in depth and in members. Their size is the caller's to
// bound, before and after.
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
	// MaxDepth is how deep arrays and objects may lie in each other.
	MaxDepth = 64
	// MaxMembers is how many members one object may have.
	MaxMembers = 4096
	// maxExponent bounds the exponent of a number, which is else a way to
	// write down in ten bytes what takes a gigabyte.
	maxExponent = 1_000_000_000
)

// ErrSyntax is wrapped by errors about text that is not JSON at all, or JSON
// that does not mean one thing: with a member twice, or half a character.
var ErrSyntax = errkind.New("bad-state", "", "not JSON that can be kept")

// ErrBounds is wrapped by errors about JSON that is over a bound.
var ErrBounds = errkind.New("unprocessable", "", "the value is over a bound")

// Value is a JSON value. The methods that change one are not safe for
// concurrent use, the others are.
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

// Compact takes the white space out of JSON text, which it checks. What is
// over limit then is a *SizeError, before it takes any more memory. What is
// returned shares no memory with text.
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

// Parse reads JSON text, all of it. It takes up to some 50 times the memory.
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
		if halfSurrogate(raw) {
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
		case halfSurrogate(m.raw):
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

// at names the value that is read.
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

// string takes a string with its quotes.
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

// decode is what a JSON string says.
func decode(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it was checked
	return s
}

// halfSurrogate looks for a \u escape of half a character in a JSON string.
func halfSurrogate(raw []byte) bool {
	high := false // the escape before was the first half of a pair
	for i := 0; i < len(raw); i++ {
		escaped := raw[i] == '\\'
		if escaped && raw[i+1] == 'u' {
			unit, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
			low := unit >= 0xDC00 && unit < 0xE000
			if low != high {
				return true
			}
			high = unit >= 0xD800 && unit < 0xDC00
			i += 5
			continue
		}
		if high {
			return true
		}
		if escaped {
			i++
		}
	}
	return false
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

// Check reports whether v is within the bounds that Parse holds text to: what
// patches make may be over them.
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

// Canonical appends bytes that are the same for two values exactly when the
// values are equal: members in any order, numbers by what they are worth,
// strings by what they say.
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

// find is the place of a member, or -1.
func (v *Value) find(key string) int {
	return slices.IndexFunc(v.members, func(m member) bool { return m.key == key })
}

// clone shares nothing that a patch could change.
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

// pointer writes a path as a JSON pointer (RFC 6901).
func pointer(path []string) string {
	var s []byte
	for _, token := range path {
		s = appendToken(s, token)
	}
	return string(s)
}

// appendToken goes on with a JSON pointer.
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

// where names a path in an error.
func where(path []string) string {
	if len(path) == 0 {
		return "the value"
	}
	return clip(pointer(path))
}

// clip bounds what an error repeats.
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
