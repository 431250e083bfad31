package evstream

import (
	"fmt"
	"strings"
)

// explanation is a decision with what each rule had to do with it.
type explanation struct {
	who      caller
	do       string
	channel  string
	decision decision
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

// explain is decide, with each rule's part in it.
func (a *access) explain(who caller, do, channel string) explanation {
	x := explanation{who: who, do: do, channel: channel, decision: a.decide(who, do, channel)}
	if a.all {
		return x
	}
	for i := range a.rules {
		r := &a.rules[i]
		rx := ruleExplanation{text: r.text, who: r.includes(who), do: r.lets(do), where: channel != "" && r.reaches(who, channel)}
		for _, w := range r.where {
			if _, ok := w.of(who); !ok {
				rx.missing = append(rx.missing, w.missing(who)...)
			}
		}
		x.rules = append(x.rules, rx)
	}
	if who.grants == nil {
		return x
	}
	for _, p := range who.grants.patterns[do] {
		x.rules = append(x.rules, ruleExplanation{
			text: fmt.Sprintf("the token's grant %s %s", do, p),
			who:  true, do: true, where: channel != "" && containsAll(p, channel),
		})
	}
	return x
}

// missing lists the placeholders that cannot be filled for who, or all of them
// where it is the whole that is no pattern.
func (w *where) missing(who caller) []string {
	var unfilled, all []string
	for _, segment := range w.segments {
		if segment[0] != '{' {
			continue
		}
		all = append(all, segment)
		one := where{segments: []string{"x", segment}}
		if _, ok := one.of(who); !ok {
			unfilled = append(unfilled, segment)
		}
	}
	if unfilled == nil {
		return all
	}
	return unfilled
}

// reason says in a few words what a rule has to do with the question.
func (rx *ruleExplanation) reason(do string) string {
	switch {
	case !rx.who:
		return "is not about this caller"
	case !rx.do:
		return "does not allow to " + do
	case rx.where:
		return "allows it"
	case rx.missing != nil:
		return "takes in nothing here: the caller has no fit value for " + strings.Join(rx.missing, ", ")
	}
	return "does not contain all of the channel"
}

// String is the explanation as a person reads it.
func (x explanation) String() string {
	var s strings.Builder
	verdict := "not allowed: no rule allows it"
	if x.decision.allowed {
		verdict = "allowed by: " + x.decision.by
	}
	fmt.Fprintf(&s, "%s, to %s %q: %s\n", x.who, x.do, x.channel, verdict)
	for _, rx := range x.rules {
		fmt.Fprintf(&s, "  %s\n    %s\n", rx.text, rx.reason(x.do))
	}
	return s.String()
}
