package access

import (
	"iter"

	"github.com/evstream/caddy-evstream/channel"
)

// Patterns returns the patterns of channels with which who may do something, by rules and
// by the grants of the credential: "**" for a policy that allows everything. It decides as
// Decide does about names and patterns that can be read, where one of them has to contain
// all that is named.
func (p *Policy) Patterns(who *Caller, do string) (patterns []string) {
	if p.all {
		return []string{"**"}
	}
	for pattern := range p.allowed(who, do) {
		patterns = append(patterns, pattern.String())
	}
	return patterns
}

// allowed are the patterns of the rules and grants that let who do something.
func (p *Policy) allowed(who *Caller, do string) iter.Seq[channel.Pattern] {
	return func(yield func(channel.Pattern) bool) {
		for i := range p.rules {
			r := &p.rules[i]
			if !r.lets(do) || !r.includes(who) {
				continue
			}
			for j := range r.where {
				if pattern, ok := r.where[j].of(who); ok && !yield(pattern) {
					return
				}
			}
		}
		if who.Grants == nil {
			return
		}
		for _, pattern := range who.Grants.patterns[do] {
			if !yield(pattern) {
				return
			}
		}
	}
}
