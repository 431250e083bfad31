package evstream

import (
	"net/url"
	"slices"
	"strings"
)

// query reads the parameters of a request without a map: most requests have
// none, and the others one or two.
type query string

// all calls yield for each value of the parameters called name, until it
// returns false.
func (q query) all(name string, yield func(value string) bool) error {
	for pair := range strings.SplitSeq(string(q), "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil || key != name || pair == "" {
			continue // what nobody asks for is nobody's error
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return badQuery.because("the value of %s has a malformed percent-encoding", name)
		}
		if !yield(value) {
			return nil
		}
	}
	return nil
}

// one returns the value of a parameter that may be given once.
func (q query) one(name string) (value string, given bool, err error) {
	if q == "" {
		return "", false, nil
	}
	more := false
	err = q.all(name, func(v string) bool {
		value, given, more = v, true, given
		return !more
	})
	if err == nil && more {
		err = badQuery.because("%s is given more than once", name)
	}
	return value, given, err
}

// first returns the value of the first of several spellings that is given.
func (q query) first(names ...string) (string, error) {
	for _, name := range names {
		if value, given, err := q.one(name); given || err != nil {
			return value, err
		}
	}
	return "", nil
}

// has reports whether a parameter is there, with or without a value.
func (q query) has(name string) bool {
	found := false
	if q != "" {
		_ = q.all(name, func(string) bool { found = true; return false })
	}
	return found
}

// list returns every value of a parameter, each once, in order.
func (q query) list(name string) ([]string, error) {
	if q == "" {
		return nil, nil
	}
	var values []string
	var seen map[string]bool // from the point where looking through values is slow
	err := q.all(name, func(v string) bool {
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

// flag returns a parameter that is on or off; alone, without a value, it is on.
func (q query) flag(name string, def bool) (bool, error) {
	value, given, err := q.one(name)
	if err != nil || !given {
		return def, err
	}
	switch value {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, badQuery.because("%s is 1 or 0, not %q", name, clip(value))
}

// clip bounds what an error repeats of a request.
func clip(s string) string { return clipTo(s, 64) }

func clipTo(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
