package access

import (
	"fmt"
	"strings"
)

// Explanation is a decision, and for each rule why it allowed it or did not.
type Explanation struct {
	who      *Caller
	do       string
	channel  string
	Decision Decision
	rules    []ruleExplanation
}

// ruleExplanation is why a rule, or a grant, decides or does not.
type ruleExplanation struct {
	text  string
	who   bool // the rule concerns the caller
	do    bool // and is about that verb
	where bool // and contains all of the channel
	// missing has the placeholders of the rule that the caller has no value
	// for, or none that can be a segment.
	missing []string
}

// Explain is Decide with an explanation.
func (p *Policy) Explain(who *Caller, do, channel string) Explanation {
	x := Explanation{who: who, do: do, channel: channel, Decision: p.Decide(who, do, channel)}
	if p.all {
		return x
	}
	for i := range p.rules {
		r := &p.rules[i]
		rx := ruleExplanation{text: r.text, who: r.includes(who), do: r.lets(do), where: channel != "" && r.reaches(who, channel)}
		for _, w := range r.where {
			if _, ok := w.of(who); !ok {
				rx.missing = append(rx.missing, w.missing(who)...)
			}
		}
		x.rules = append(x.rules, rx)
	}
	if who.Grants == nil {
		return x
	}
	for _, pattern := range who.Grants.patterns[do] {
		x.rules = append(x.rules, ruleExplanation{
			text: fmt.Sprintf("the token's grant %s %s", do, pattern),
			who:  true, do: true, where: channel != "" && containsAll(pattern, channel),
		})
	}
	return x
}

// missing lists the placeholders that cannot be filled for who. Where each can be,
// and together they make no pattern, it lists all of them.
func (w *template) missing(who *Caller) []string {
	var unfilled, all []string
	for _, segment := range w.segments {
		if segment[0] != '{' {
			continue
		}
		all = append(all, segment)
		one := template{segments: []string{"x", segment}}
		if _, ok := one.of(who); !ok {
			unfilled = append(unfilled, segment)
		}
	}
	if unfilled == nil {
		return all
	}
	return unfilled
}

// reason says in a few words why the rule allows it or does not.
func (rx *ruleExplanation) reason(do string) string {
	switch {
	case !rx.who:
		return "is not about this caller"
	case !rx.do:
		return "does not allow to " + do
	case rx.where:
		return "allows it"
	case rx.missing != nil:
		return "matches no channel: the caller has no usable value for " + strings.Join(rx.missing, ", ")
	}
	return "does not contain all of the channel"
}

// String is the explanation as a person reads it.
func (x Explanation) String() string {
	var s strings.Builder
	verdict := "not allowed: no rule allows it"
	if x.Decision.Allowed {
		verdict = "allowed by: " + x.Decision.By
	}
	fmt.Fprintf(&s, "%s, to %s %q: %s\n", x.who, x.do, x.channel, verdict)
	for _, rx := range x.rules {
		fmt.Fprintf(&s, "  %s\n    %s\n", rx.text, rx.reason(x.do))
	}
	return s.String()
}
