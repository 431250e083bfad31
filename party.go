package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The "who" of rules, beside the names of bearers and of matchers.
const (
	anyone   = "anyone" // with or without credentials
	anyUser  = "user"   // authenticated as a user
	hasClaim = "claim"  // of a token, or of what an application says
)

// party is whom a rule concerns.
type party struct {
	who     string // anyone, anyUser, hasClaim, or the name of a bearer
	claim   string
	value   string
	matcher string // the definition of a matcher; then who is "@" and its name
}

// includes reports whether who is one of the party.
func (p *party) includes(who caller) bool {
	switch {
	case p.who == anyone:
		return true
	case p.who == anyUser:
		return who.user != ""
	case p.who == hasClaim:
		return claimHas(who.claims[p.claim], p.value)
	case strings.HasPrefix(p.who, "@"):
		return p.matcher != "" && who.matched[p.matcher]
	}
	return who.name != "" && who.name == p.who
}

// claimHas reports whether a claim is value, or a list that has it.
func claimHas(claim any, value string) bool {
	if list, ok := claim.([]any); ok {
		return slices.ContainsFunc(list, func(v any) bool {
			text, ok := claimText(v)
			return ok && text == value
		})
	}
	text, ok := claimText(claim)
	return ok && text == value
}

// party reads whom a rule concerns. A matcher's definition is read later, by
// addMatchers: the rule names it only.
func (a *access) party(r AllowRule) (party, error) {
	p := party{who: r.Who, claim: r.Claim, value: r.Value}
	switch {
	case r.Who == hasClaim && (r.Claim == "" || r.Value == ""):
		return p, errors.New("a rule for a claim has its name and its value: allow claim <name> <value> <what,...> <channels...>")
	case r.Who != hasClaim && (r.Claim != "" || r.Value != ""):
		return p, fmt.Errorf("a claim is given, but the rule is for %q", r.Who)
	case r.MatcherSetsRaw != nil && !strings.HasPrefix(r.Who, "@"):
		return p, fmt.Errorf("a matcher is given, but the rule is for %q, which does not begin with @", r.Who)
	case r.Who == "@":
		return p, errors.New("a matcher has a name after the @")
	case r.Who == anyone, r.Who == anyUser, r.Who == hasClaim, strings.HasPrefix(r.Who, "@"):
		return p, nil
	case slices.ContainsFunc(a.bearers, func(b bearer) bool { return b.name == r.Who }):
		return p, nil
	}
	return p, fmt.Errorf("%q is nobody: a rule allows %s", r.Who, a.known())
}

// checkUsers reports a rule that is about users or claims where nothing says
// who is one, or has any: nobody could ever be meant.
func (h *Handler) checkUsers(r AllowRule) error {
	says := h.JWT != nil || h.Verify != nil
	places := strings.Join(r.Channels, " ")
	switch {
	case !says && (r.Who == hasClaim || strings.Contains(places, claimPlaceholder)):
		return errors.New("nobody has claims here: jwt or verify would say who does")
	case !says && !h.CaddyAuth && (r.Who == anyUser || strings.Contains(places, userPlaceholder)):
		return errors.New("nobody is a user here: jwt, verify or caddy_auth would say who is")
	}
	return nil
}

// known lists who can stand in a rule.
func (a *access) known() string {
	var s strings.Builder
	s.WriteString("anyone, user, claim <name> <value>, @<matcher>")
	for _, b := range a.bearers {
		s.WriteString(" or bearer ")
		s.WriteString(b.name)
	}
	return s.String()
}

// addMatchers loads the matchers of rules, which are those that a was made of.
// One that has no condition is an error: it would match everybody.
func (a *access) addMatchers(ctx caddy.Context, rules []AllowRule) error {
	for i := range rules {
		if !strings.HasPrefix(rules[i].Who, "@") {
			continue
		}
		rule := rules[i] // loading takes the definition out of it
		if len(rule.MatcherSetsRaw) == 0 || slices.ContainsFunc(rule.MatcherSetsRaw, func(set caddy.ModuleMap) bool { return len(set) == 0 }) {
			return fmt.Errorf("%s: the matcher %s has no condition, so it would match everybody", ruleText(rule), rule.Who)
		}
		definition, err := json.Marshal(rule.MatcherSetsRaw)
		if err != nil {
			return fmt.Errorf("%s: %w", ruleText(rule), err)
		}
		a.rules[i].matcher = string(definition)
		if _, loaded := a.matchers[string(definition)]; loaded {
			continue
		}
		module, err := ctx.LoadModule(&rule, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("%s: loading the matcher: %w", ruleText(rule), err)
		}
		var sets caddyhttp.MatcherSets
		if err := sets.FromInterface(module); err != nil {
			return fmt.Errorf("%s: %w", ruleText(rule), err)
		}
		if a.matchers == nil {
			a.matchers = make(map[string]caddyhttp.MatcherSets)
		}
		a.matchers[string(definition)] = sets
	}
	return nil
}

// caller finds out who makes a request, and which matchers of the rules match
// it. That is asked once: what follows decides for a caller, not for a request.
//
// Of a request that is made again after a reload it is not known any more what
// handlers in front found out, and a matcher that says "not" may match for that
// reason alone. So only what has matched before, and does again, matches.
func (a *access) caller(r *http.Request) (caller, error) {
	who, err := a.identify(r)
	who.matched = nil
	if err != nil || len(a.matchers) == 0 {
		return who, err
	}
	if _, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok {
		return who, nil // outside of a server matchers cannot tell
	}
	was, again := askedBefore(r)
	who.matched = make(map[string]bool, len(a.matchers))
	for definition, sets := range a.matchers {
		match, err := sets.AnyMatchWithError(r)
		who.matched[definition] = match && err == nil && (!again || was.matched[definition])
	}
	return who, nil
}
