// Package query reads the parameters of a request's URL without a map: most
// requests have none, and the others one or two.
package query

import (
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Query is the raw query of a URL. Errors are of type *Error.
type Query string

// Error is the error of a parameter that cannot be used.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// ProblemKind says what kind of problem it is to a client.
func (e *Error) ProblemKind() string { return "bad-parameter" }

func errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// All calls yield for each value of the parameters called name, until it
// returns false.
func (q Query) All(name string, yield func(value string) bool) error {
	return q.each(func(key string) bool { return key == name }, yield)
}

// each is All for the parameters whose names are wanted.
func (q Query) each(wanted func(name string) bool, yield func(value string) bool) error {
	for pair := range strings.SplitSeq(string(q), "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil || !wanted(key) || pair == "" {
			continue // another parameter, whose errors do not matter here
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return errorf("the value of %s has a malformed percent-encoding", key)
		}
		if !yield(value) {
			return nil
		}
	}
	return nil
}

// names are the names of the parameters, as they are where they cannot be decoded.
func (q Query) names() iter.Seq[string] {
	return func(yield func(name string) bool) {
		for pair := range strings.SplitSeq(string(q), "&") {
			name, _, _ := strings.Cut(pair, "=")
			if decoded, err := url.QueryUnescape(name); err == nil {
				name = decoded
			}
			if pair != "" && !yield(name) {
				return
			}
		}
	}
}

// One returns the value of a parameter that may be given once.
func (q Query) One(name string) (value string, given bool, err error) {
	if q == "" {
		return "", false, nil
	}
	more := false
	err = q.All(name, func(v string) bool {
		value, given, more = v, true, given
		return !more
	})
	if err == nil && more {
		err = errorf("%s is given more than once", name)
	}
	return value, given, err
}

// Has reports whether a parameter is there, with or without a value.
func (q Query) Has(name string) bool {
	found := false
	if q != "" {
		_ = q.All(name, func(string) bool { found = true; return false })
	}
	return found
}

// List returns every value of a parameter, each once, in order.
func (q Query) List(name string) ([]string, error) {
	if q == "" {
		return nil, nil
	}
	var values []string
	var seen map[string]bool // set once values is too long to be searched
	err := q.All(name, func(v string) bool {
		switch {
		case seen != nil:
			if seen[v] {
				return true
			}
			seen[v] = true
		case slices.Contains(values, v):
			return true
		case len(values) == 16:
			seen = map[string]bool{v: true}
			for _, old := range values {
				seen[old] = true
			}
		}
		values = append(values, v)
		return true
	})
	return values, err
}

// Flag returns a parameter that is on or off; without a value it is on.
func (q Query) Flag(name string, def bool) (bool, error) {
	value, given, err := q.One(name)
	if err != nil || !given {
		return def, err
	}
	switch value {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, errorf("%s is 1 or 0, not %q", name, clip(value))
}

// clip shortens a part of a request that an error quotes.
func clip(s string) string {
	most := 64
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most-- // not in the middle of a rune
	}
	return s[:most] + "…"
}
