package access

import (
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// Span is a part of all names in their order: those that begin with Begin, or with Only
// the name Begin alone.
type Span struct {
	Begin string
	Only  bool
}

// Spans are where the channels lie with which who may do something, in order and
// without overlaps. They may hold others, too, which Decide does not allow: those of
// "users/*/news" are all names that begin with "users/".
func (p *Policy) Spans(who *Caller, do string) (spans []Span) {
	if p.all {
		return []Span{{}}
	}
	for pattern := range p.allowed(who, do) {
		spans = appendSpans(spans, pattern)
	}
	slices.SortFunc(spans, func(a, b Span) int {
		if c := strings.Compare(a.Begin, b.Begin); c != 0 || a.Only == b.Only {
			return c
		} else if a.Only {
			return 1
		}
		return -1
	})
	kept := spans[:0]
	for _, s := range spans {
		// What a span holds follows its beginning at once.
		if n := len(kept); n == 0 || s != kept[n-1] && (kept[n-1].Only || !strings.HasPrefix(s.Begin, kept[n-1].Begin)) {
			kept = append(kept, s)
		}
	}
	return kept
}

// appendSpans adds the spans of a pattern.
func appendSpans(spans []Span, p channel.Pattern) []Span {
	begin, after, wild := strings.Cut(p.String(), "*")
	if !wild {
		return append(spans, Span{begin, true})
	}
	if name, ok := strings.CutSuffix(begin, "/"); ok && after == "*" {
		spans = append(spans, Span{name, true}) // a/** selects a, too
	}
	return append(spans, Span{Begin: begin})
}
