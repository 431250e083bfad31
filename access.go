package evstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/broker"
)

// What a rule can allow to do.
const (
	doSubscribe = "subscribe" // read: live, replay, poll, ?info, _channels
	doPublish   = "publish"   // publish, purge
)

// verbs has what may stand in the "do" of a rule.
var verbs = []string{doSubscribe, doPublish, "state", "presence", "session", "all"}

// access decides who may do what. It does not change once it is made and is
// safe for concurrent use.
type access struct {
	all     bool // allowAll: no rules, no credentials
	rules   []rule
	bearers []bearer
	credentials

	matchers map[string]caddyhttp.MatcherSets // of rules, by their definition
}

// rule is an AllowRule, read.
type rule struct {
	party
	text  string
	do    []string
	where []where
}

// allowAll is the access of the admin endpoint, which Caddy guards.
var allowAll = &access{all: true}

// decision is what access decided, and why.
type decision struct {
	allowed bool
	by      string // the rule that allowed it, as it is written, or the token's grant
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
	read := rule{text: ruleText(r), do: r.Do}
	var err error
	if read.party, err = a.party(r); err != nil {
		return err
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
		w, err := parseWhere(channel)
		if err != nil {
			return err
		}
		read.where = append(read.where, w)
	}
	a.rules = append(a.rules, read)
	return nil
}

func ruleText(r AllowRule) string {
	who := r.Who
	if r.Claim != "" {
		who += " " + r.Claim + " " + r.Value
	}
	return strings.TrimSpace("allow " + who + " " + strings.Join(r.Do, ",") + " " + strings.Join(r.Channels, " "))
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
		if r.lets(do) && r.includes(who) && r.reaches(who, channel) {
			return decision{allowed: true, by: r.text}
		}
	}
	if i := who.granted(do, channel); i >= 0 {
		return decision{allowed: true, by: fmt.Sprintf("the token's grant %s %s", do, who.grants.patterns[do][i])}
	}
	return decision{}
}

// lets reports whether the rule is about doing that.
func (r *rule) lets(do string) bool {
	return slices.Contains(r.do, do) || do != "" && slices.Contains(r.do, "all")
}

// reaches reports whether one pattern of the rule contains all of channel.
func (r *rule) reaches(who caller, channel string) bool {
	return slices.ContainsFunc(r.where, func(w where) bool {
		p, ok := w.of(who)
		return ok && containsAll(p, channel)
	})
}

// granted is which grant of the caller's own credential contains all of
// channel, or -1.
func (c caller) granted(do, channel string) int {
	if c.grants == nil {
		return -1
	}
	return slices.IndexFunc(c.grants.patterns[do], func(p broker.Pattern) bool { return containsAll(p, channel) })
}

// containsAll reports whether p contains all of a channel, of a pattern, or of
// what lies beneath a name.
func containsAll(p broker.Pattern, channel string) bool {
	if prefix, ok := strings.CutSuffix(channel, "/"); ok {
		// A pattern with an open end that takes in the prefix takes in all
		// that lies beneath it.
		return strings.HasSuffix(p.String(), "**") && prefix != "" && p.Match(prefix)
	}
	if !broker.IsPattern(channel) {
		return p.Match(channel)
	}
	wanted, err := broker.ParsePattern(channel)
	return err == nil && p.Contains(wanted)
}

// somewhere reports whether who may do something with any channel.
func (a *access) somewhere(who caller, do string) bool {
	return a.all || who.grants != nil && len(who.grants.patterns[do]) > 0 ||
		slices.ContainsFunc(a.rules, func(r rule) bool {
			return r.lets(do) && r.includes(who) && slices.ContainsFunc(r.where, func(w where) bool {
				_, ok := w.of(who)
				return ok
			})
		})
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
