package broker

import (
	"fmt"
	"strings"
)

// Pattern selects channels. In a segment "*" stands for any part of it; a
// final segment "**" stands for the rest, which may be nothing: "a/**" takes
// in "a", "a/" and all beneath; "**" alone is everything.
//
// A Pattern is a value that may be copied and used concurrently.
type Pattern struct {
	text     string
	segments []string
	rest     bool // ends in "**"
}

// ParsePattern reads a pattern; a plain name is a pattern of itself.
func ParsePattern(s string) (Pattern, error) {
	if err := checkSegments(s, "*"); err != nil {
		return Pattern{}, err
	}
	p := Pattern{text: s, segments: strings.Split(s, "/")}
	last := len(p.segments) - 1
	if p.segments[last] == "**" {
		p.rest, p.segments = true, p.segments[:last]
	}
	for _, segment := range p.segments {
		if strings.Contains(segment, "**") {
			return Pattern{}, fmt.Errorf("%w: %q: ** stands alone, as the last segment", ErrName, s)
		}
	}
	return p, nil
}

// IsPattern reports whether s has a wildcard.
func IsPattern(s string) bool { return strings.Contains(s, "*") }

func (p Pattern) String() string { return p.text }

// Match reports whether p takes in name: a channel, or a name beneath, which
// is taken in when it reaches some channel that p takes in.
func (p Pattern) Match(name string) bool {
	prefix, beneath := strings.CutSuffix(name, "/")
	for i, want := range p.segments {
		segment, rest, more := strings.Cut(prefix, "/")
		if !matchSegment(want, segment) {
			return false
		}
		if !more {
			// The name ends here: what is left of p must be nothing, or be
			// reached by what lies beneath the name.
			return beneath || i == len(p.segments)-1
		}
		prefix = rest
	}
	return p.rest
}

// Contains reports whether every channel that q takes in is taken in by p.
// A "*" of q can only be taken in by a "*" of p, so that matching q's segments
// as if they were names decides it.
func (p Pattern) Contains(q Pattern) bool {
	for i, want := range p.segments {
		if i >= len(q.segments) {
			return false // q is shorter, or goes on with anything
		}
		if !matchSegment(want, q.segments[i]) {
			return false
		}
	}
	return p.rest || !q.rest && len(p.segments) == len(q.segments)
}

// overlap reports whether some channel may be taken in by both of two names or
// patterns. Of two segments with wildcards it assumes so.
func overlap(a, b string) bool {
	p, err := ParsePattern(a)
	q, err2 := ParsePattern(b)
	if err != nil || err2 != nil {
		return false
	}
	for i := range min(len(p.segments), len(q.segments)) {
		have, want := p.segments[i], q.segments[i]
		if !IsPattern(have) && !matchSegment(want, have) || !IsPattern(want) && !matchSegment(have, want) {
			return false
		}
	}
	switch {
	case len(p.segments) < len(q.segments):
		return p.rest
	case len(p.segments) > len(q.segments):
		return q.rest
	}
	return true
}

// matchSegment matches one segment against a pattern with "*": its ends, and
// then what stands between two "*", each where it comes first. It looks at
// nothing twice.
func matchSegment(pattern, s string) bool {
	if pattern == "*" || pattern == s {
		return true
	}
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild || !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}
