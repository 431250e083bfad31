package evstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
)

// What a rule can allow to do.
const (
	doSubscribe = "subscribe" // read: live, replay, poll, ?info, _channels
	doPublish   = "publish"   // publish, purge
)

// verbs has what may stand in the "do" of a rule.
var verbs = []string{doSubscribe, doPublish, "state", "presence", "session", "all"}

// anyone is the "who" of everybody, with or without credentials.
const anyone = "anyone"

// access decides who may do what. It does not change once it is made and is
// safe for concurrent use.
type access struct {
	all     bool // allowAll: no rules, no credentials
	rules   []rule
	bearers []bearer
	credentials
}

// rule is an AllowRule, read.
type rule struct {
	text     string
	who      string
	do       []string
	patterns []broker.Pattern
}

// allowAll is the access of the admin endpoint, which Caddy guards.
var allowAll = &access{all: true}

// decision is what access decided, and why.
type decision struct {
	allowed bool
	by      string // the rule that allowed it, as it is written
}

// newAccess reads rules and the secrets of bearers by their name. Without a
// rule it is an error: nothing would be allowed.
func newAccess(rules []AllowRule, bearers map[string]string) (*access, error) {
	if len(rules) == 0 {
		return nil, errors.New("there is no allow rule, so nobody could do anything; for example: allow anyone subscribe **")
	}
	a := &access{}
	if err := a.addBearers(bearers); err != nil {
		return nil, err
	}
	for _, r := range rules {
		if err := a.addRule(r); err != nil {
			return nil, fmt.Errorf("%s: %w", ruleText(r), err)
		}
	}
	return a, nil
}

func (a *access) addRule(r AllowRule) error {
	read := rule{text: ruleText(r), who: r.Who, do: r.Do}
	if r.Who != anyone && !slices.ContainsFunc(a.bearers, func(b bearer) bool { return b.name == r.Who }) {
		return fmt.Errorf("%q is nobody: a rule allows %s", r.Who, a.known())
	}
	if len(r.Do) == 0 {
		return fmt.Errorf("it allows nothing: name some of %s", strings.Join(verbs, ", "))
	}
	for _, do := range r.Do {
		if !slices.Contains(verbs, do) {
			return fmt.Errorf("%q cannot be allowed, only %s", do, strings.Join(verbs, ", "))
		}
	}
	if len(r.Channels) == 0 {
		return errors.New("it names no channels: ** stands for all of them")
	}
	for _, channel := range r.Channels {
		p, err := broker.ParsePattern(channel)
		if err != nil {
			return err
		}
		read.patterns = append(read.patterns, p)
	}
	a.rules = append(a.rules, read)
	return nil
}

// known lists who can stand in a rule.
func (a *access) known() string {
	var s strings.Builder
	s.WriteString(anyone)
	for _, b := range a.bearers {
		s.WriteString(" or bearer ")
		s.WriteString(b.name)
	}
	return s.String()
}

func ruleText(r AllowRule) string {
	return strings.TrimSpace("allow " + r.Who + " " + strings.Join(r.Do, ",") + " " + strings.Join(r.Channels, " "))
}

// decide says whether who may do something with a channel. It is the one
// decision for live events, replay, polls, ?info, lists and reloads.
//
// channel is a channel, a pattern to read, or a name beneath to publish to.
// The last two are allowed only if one pattern of one rule contains everything
// they reach; what cannot be understood is not allowed.
func (a *access) decide(who caller, do, channel string) decision {
	if a.all {
		return decision{allowed: true, by: "the admin endpoint"}
	}
	if channel == "" {
		return decision{}
	}
	for i := range a.rules {
		r := &a.rules[i]
		if r.concerns(who, do) && r.reaches(channel) {
			return decision{allowed: true, by: r.text}
		}
	}
	return decision{}
}

// concerns reports whether the rule lets who do something at all.
func (r *rule) concerns(who caller, do string) bool {
	return (r.who == anyone || who.name != "" && r.who == who.name) &&
		(slices.Contains(r.do, do) || slices.Contains(r.do, "all"))
}

// reaches reports whether one pattern of the rule contains all of channel.
func (r *rule) reaches(channel string) bool {
	if prefix, ok := strings.CutSuffix(channel, "/"); ok {
		return slices.ContainsFunc(r.patterns, func(p broker.Pattern) bool {
			// A pattern with an open end that takes in the prefix takes in
			// all that lies beneath it.
			return strings.HasSuffix(p.String(), "**") && prefix != "" && p.Match(prefix)
		})
	}
	if !broker.IsPattern(channel) {
		return slices.ContainsFunc(r.patterns, func(p broker.Pattern) bool { return p.Match(channel) })
	}
	wanted, err := broker.ParsePattern(channel)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(r.patterns, func(p broker.Pattern) bool { return p.Contains(wanted) })
}

// somewhere reports whether who may do something with any channel.
func (a *access) somewhere(who caller, do string) bool {
	return a.all || slices.ContainsFunc(a.rules, func(r rule) bool { return r.concerns(who, do) })
}

// require is decide for a request: nil, or the answer to it.
func (a *access) require(who caller, do, channel string) error {
	if a.decide(who, do, channel).allowed {
		return nil
	}
	// A bad name is told as such: no rule could allow it.
	check := broker.CheckTarget
	if do == doSubscribe {
		check = checkReadable
	}
	if err := check(channel); err != nil {
		return err
	}
	return a.refuse(who, do, fmt.Sprintf("channel %q", channel))
}

// refuse is the answer to who is not allowed: 401 if credentials could help.
func (a *access) refuse(who caller, do, what string) error {
	if who.anonymous() && a.identifies() {
		return unauthorized.because("without credentials there is no permission to %s, here %s", do, what)
	}
	return forbidden.because("%s has no permission to %s, here %s", who, do, what)
}

// checkReadable reports why s is neither a channel nor a pattern.
func checkReadable(s string) error {
	_, err := broker.ParsePattern(s)
	return err
}
