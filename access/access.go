// Package access decides who may do what with which channels, by rules and by the
// grants of tokens. Who a caller is, package auth finds out.
package access

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/nearest"
	"github.com/evstream/caddy-evstream/problem"
)

// What a rule can allow to do.
const (
	Subscribe   = "subscribe" // read: live, replay, poll, ?info, values, _channels
	Publish     = "publish"   // publish
	Purge       = "purge"     // remove what a channel keeps
	ChangeState = "state"     // set, change and remove values
	UseSessions = "session"   // use the sessions of others: see, end, send to, join, bind a value
	Presence    = "presence"  // read who is in a channel
	Console     = "console"   // use the operator's page; not a part of "all"
	Everything  = "all"       // all of the above but Console
)

// Verbs returns what a rule can allow to do, the last of it "all".
func Verbs() []string {
	return []string{Subscribe, Publish, Purge, ChangeState, UseSessions, Presence, Console, Everything}
}

// Errors of callers whose credential was good when they were identified.
var (
	// ErrExpired says that a credential has expired.
	ErrExpired = errkind.New("unauthorized", "", "the token has expired")
	// ErrRevoked says that a credential was revoked.
	ErrRevoked = errkind.New("unauthorized", "", "the credential was revoked")
)

// Rule allows somebody to do something with some channels.
type Rule struct {
	// Who is "anyone", "user" for callers with a user, the name of a bearer,
	// "claim", or "@" and the name of a matcher.
	Who string
	// Claim and Value are, where Who is "claim", the name of a claim and its value.
	Claim, Value string
	// Do is what is allowed: some of Verbs.
	Do []string
	// Channels are patterns, in which {user} and {claims.<name>} stand for one
	// whole segment each.
	Channels []string

	// Match is the matcher of an "@name": it reports whether the rule is about a
	// request. It must be safe for concurrent use. Matcher identifies it: of rules
	// with the same Matcher only one Match is asked about a request, and after a
	// reload a matcher matches only the streams that one of the same identity
	// matched before. Default: Who.
	Match   func(*http.Request) bool
	Matcher string
}

// String is the rule as a configuration has it.
func (r *Rule) String() string {
	who := r.Who
	if r.Claim != "" {
		who += " " + r.Claim + " " + r.Value
	}
	return strings.TrimSpace("allow " + who + " " + strings.Join(r.Do, ",") + " " + strings.Join(r.Channels, " "))
}

// NeedsUser reports whether the rule, or one of its channels, is only for callers
// with a user.
func (r *Rule) NeedsUser() bool { return r.Who == AnyUser || r.mentions(userPlaceholder) }

// NeedsClaims reports whether the rule, or one of its channels, is only for
// callers with claims.
func (r *Rule) NeedsClaims() bool { return r.Who == HasClaim || r.mentions(claimPlaceholder) }

func (r *Rule) mentions(placeholder string) bool {
	return slices.ContainsFunc(r.Channels, func(pattern string) bool { return strings.Contains(pattern, placeholder) })
}

// Check reports what is wrong with the rule. bearers are the names of bearers that
// Who may be. It does not check that an "@name" has a Match.
func (r *Rule) Check(bearers []string) error {
	_, err := r.read(bearers)
	return err
}

// Policy decides who may do what. It does not change once it is made and is safe
// for concurrent use.
type Policy struct {
	all         bool // AllowAll
	rules       []rule
	credentials bool
	matchers    map[string]func(*http.Request) bool // of rules, by their identity
}

// rule is a Rule, read.
type rule struct {
	subject
	text  string
	do    []string
	where []template
}

// Decision is what a Policy decided, and why.
type Decision struct {
	Allowed bool
	By      string // the rule that allowed it, as it is written, or the token's grant
}

// AllowAll returns a policy that allows everybody everything. It is for an
// endpoint that something else guards.
func AllowAll() *Policy { return &Policy{all: true} }

// AllowNone returns a policy that allows nobody anything. It is for a handler whose
// streams somebody else decides on.
func AllowNone() *Policy { return new(Policy) }

// NewPolicy makes a policy of rules. bearers are the names of bearers that may be
// the Who of one. credentials says whether callers can send any: then an anonymous
// one is refused with 401, and else with 403. No rules are an error, because
// nothing would be allowed. The slices of the rules must not be changed afterwards.
func NewPolicy(rules []Rule, bearers []string, credentials bool) (*Policy, error) {
	if len(rules) == 0 {
		return nil, errors.New("there is no allow rule, so nobody could do anything; for example: allow anyone subscribe **")
	}
	p := &Policy{credentials: credentials}
	for i := range rules {
		r := &rules[i]
		read, err := r.read(bearers)
		if err == nil && read.matcher != "" && r.Match == nil {
			err = fmt.Errorf("the matcher %s is not defined", r.Who)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		}
		p.rules = append(p.rules, read)
		if read.matcher != "" {
			if p.matchers == nil {
				p.matchers = make(map[string]func(*http.Request) bool)
			}
			p.matchers[read.matcher] = r.Match
		}
	}
	return p, nil
}

func (r *Rule) read(bearers []string) (rule, error) {
	read := rule{text: r.String(), do: r.Do}
	var err error
	if read.subject, err = r.subject(bearers); err != nil {
		return read, err
	}
	if len(r.Do) == 0 {
		return read, fmt.Errorf("it allows nothing: name some of %s", strings.Join(Verbs(), ", "))
	}
	for _, do := range r.Do {
		if !slices.Contains(Verbs(), do) {
			return read, fmt.Errorf("%q cannot be allowed, only %s%s", do, strings.Join(Verbs(), ", "), nearest.Hint(do, Verbs()...))
		}
	}
	if len(r.Channels) == 0 {
		return read, errors.New("it names no channels: ** stands for all of them")
	}
	for _, pattern := range r.Channels {
		w, err := parseTemplate(pattern)
		if err != nil {
			return read, err
		}
		read.where = append(read.where, w)
	}
	return read, nil
}

// AllowsAll reports whether the policy is that of AllowAll.
func (p *Policy) AllowsAll() bool { return p.all }

// Matched asks each matcher of the rules about a request. It returns the answers
// by the matchers' identities, as Caller.Matched has them, or nil where no rule has
// a matcher.
//
// was is nil, or, for the request of a stream that has outlived a reload, the
// caller that was found the first time. Then only a matcher that matched the first
// time can match: what handlers in front had found out is lost, and a matcher with
// a "not" could match because of that alone.
func (p *Policy) Matched(r *http.Request, was *Caller) map[string]bool {
	if len(p.matchers) == 0 {
		return nil
	}
	matched := make(map[string]bool, len(p.matchers))
	for id, match := range p.matchers {
		matched[id] = match(r) && (was == nil || was.Matched[id])
	}
	return matched
}

// Decide says whether who may do something with a channel. All that is allowed is
// decided here: live events, replay, polls, ?info, lists and reloads.
//
// name is a channel, a pattern to read, or a name that ends in a slash, which is
// all channels beneath it. The last two are allowed only if one pattern of one rule
// contains every channel that they stand for. A name that is none of these is not
// allowed.
func (p *Policy) Decide(who *Caller, do, name string) Decision {
	if p.all {
		return Decision{Allowed: true, By: "the admin endpoint"}
	}
	if name == "" {
		return Decision{}
	}
	for i := range p.rules {
		r := &p.rules[i]
		if r.lets(do) && r.includes(who) && r.reaches(who, name) {
			return Decision{Allowed: true, By: r.text}
		}
	}
	if i := who.granted(do, name); i >= 0 {
		return Decision{Allowed: true, By: fmt.Sprintf("the token's grant %s %s", do, who.Grants.patterns[do][i])}
	}
	return Decision{}
}

// lets reports whether the rule allows the verb.
func (r *rule) lets(do string) bool {
	return slices.Contains(r.do, do) || do != "" && do != Console && slices.Contains(r.do, Everything)
}

// reaches reports whether one pattern of the rule contains all of name.
func (r *rule) reaches(who *Caller, name string) bool {
	return slices.ContainsFunc(r.where, func(w template) bool {
		p, ok := w.of(who)
		return ok && containsAll(p, name)
	})
}

// granted is the index of the grant of the caller's own credential that
// contains all of name, or -1.
func (c *Caller) granted(do, name string) int {
	if c.Grants == nil {
		return -1
	}
	return slices.IndexFunc(c.Grants.patterns[do], func(p channel.Pattern) bool { return containsAll(p, name) })
}

// containsAll reports whether p contains all of a channel, of a pattern, or of
// what lies beneath a name.
func containsAll(p channel.Pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(name, "/"); ok {
		// A pattern that ends in ** and matches the prefix matches all that lies
		// beneath it.
		return strings.HasSuffix(p.String(), "**") && prefix != "" && p.Match(prefix)
	}
	if !channel.IsPattern(name) {
		return p.Match(name)
	}
	wanted, err := channel.ParsePattern(name)
	return err == nil && p.Contains(wanted)
}

// Somewhere reports whether who may do something with any channel.
func (p *Policy) Somewhere(who *Caller, do string) bool {
	return p.all || who.Grants != nil && len(who.Grants.patterns[do]) > 0 ||
		slices.ContainsFunc(p.rules, func(r rule) bool {
			return r.lets(do) && r.includes(who) && slices.ContainsFunc(r.where, func(w template) bool {
				_, ok := w.of(who)
				return ok
			})
		})
}

// Require returns nil where Decide allows it, and else the problem to answer the
// request with: that of a bad name, or that of Refuse.
func (p *Policy) Require(who *Caller, do, name string) error {
	if p.Decide(who, do, name).Allowed {
		return nil
	}
	// No rule could allow a bad name, so the name is what is reported.
	check := channel.CheckTarget
	if do == Subscribe || do == Console { // which patterns can be asked for
		check = checkReadable
	}
	if err := check(name); err != nil {
		return err
	}
	return p.Refuse(who, do, fmt.Sprintf("channel %q", name))
}

// Refuse returns the problem for a caller who is not allowed: 401 where credentials
// could help, else 403. what says what it was to be done with.
func (p *Policy) Refuse(who *Caller, do, what string) error {
	switch do { // the verbs of rules that are no verbs of a sentence
	case ChangeState:
		do = `write values (state)`
	case Presence:
		do = `read who is there (presence)`
	case Console:
		do = `use the console (console)`
	case UseSessions:
		do = `use a session of somebody else (session)`
	}
	if who.Anonymous() && p.credentials {
		return problem.Unauthorized.Because("without credentials there is no permission to %s, here %s", do, what)
	}
	return problem.Forbidden.Because("%s has no permission to %s, here %s", who, do, what)
}

// checkReadable reports why s is neither a channel nor a pattern.
func checkReadable(s string) error {
	_, err := channel.ParsePattern(s)
	return err
}
