package channel

import (
	"fmt"
	"strings"
)

// Pattern selects channels. In a segment "*" stands for any part of it; a
// final segment "**" stands for the rest, which may be nothing: "a/**" selects
// "a", "a/" and everything beneath; "**" alone selects every channel.
//
// A Pattern does not change: it may be copied and used concurrently.
type Pattern struct {
	text     string
	segments []string
	rest     bool // ends in "**"
	prefix   string
}

// ParsePattern reads a pattern; the name of a channel is a pattern that selects
// this channel. The error wraps ErrName.
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
	if before, _, wild := strings.Cut(s, "*"); wild {
		p.prefix = before[:max(strings.LastIndexByte(before, '/'), 0)]
	}
	return p, nil
}

// IsPattern reports whether s has a wildcard.
func IsPattern(s string) bool { return strings.Contains(s, "*") }

// String is the pattern as it was parsed.
func (p Pattern) String() string { return p.text }

// Match reports whether p selects name. A name beneath is selected when it
// reaches some channel that p selects.
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

// Contains reports whether p selects every channel that q selects. Only a "*" of
// p matches a "*" of q, so it is enough to match q's segments as if they were
// those of a name.
func (p Pattern) Contains(q Pattern) bool {
	for i, want := range p.segments {
		if i >= len(q.segments) {
			return false // q is shorter, or ends in "**"
		}
		if !matchSegment(want, q.segments[i]) {
			return false
		}
	}
	return p.rest || !q.rest && len(p.segments) == len(q.segments)
}

// Overlap reports whether two names or patterns may select the same channel; see
// Pattern.Overlaps. It is false if one of them is not valid.
func Overlap(a, b string) bool {
	p, err := ParsePattern(a)
	if err != nil {
		return false
	}
	q, err := ParsePattern(b)
	return err == nil && p.Overlaps(q)
}

// Overlaps reports whether p and q may select the same channel. Two segments that
// both have a wildcard are assumed to match the same text.
func (p Pattern) Overlaps(q Pattern) bool {
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

// matchSegment matches one segment against a pattern with "*": first its ends,
// then each part between two "*" where it occurs first. It never backtracks.
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

// Prefix is the part of p before its first segment with a wildcard: "a/b" of "a/b/*".
// What p selects is that or lies beneath it. It is "" if the first segment has a
// wildcard.
func (p Pattern) Prefix() string { return p.prefix }

// IsSimple reports whether p is a prefix and one wildcard: "a/b/*" or "a/b/**". A name
// is selected by few such patterns, which are found by its own prefixes.
func (p Pattern) IsSimple() bool {
	return p.prefix != "" && (p.text == p.prefix+"/*" || p.text == p.prefix+"/**")
}
