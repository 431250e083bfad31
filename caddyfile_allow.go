package evstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/access"
)

// parseRule reads the arguments of allow.
func parseRule(args []string) (AllowRule, error) {
	var r AllowRule
	if len(args) > 2 && args[0] == access.HasClaim {
		r.Claim, r.Value = args[1], args[2]
		args = append([]string{access.HasClaim}, args[3:]...)
	}
	if len(args) < 3 {
		return r, errors.New("a rule is: allow <who> <what,...> <channels...>, where who is anyone, user, a bearer, claim <name> <value>, or @<matcher>")
	}
	r.Who, r.Do, r.Channels = args[0], strings.Split(args[1], ","), args[2:]
	if next := strings.Trim(r.Channels[0], ","); len(r.Channels) > 1 && slices.Contains(access.Verbs(), next) || r.Channels[0] == "," {
		return r, fmt.Errorf("what is allowed is one argument, in which commas separate, and no spaces: allow %s %s,%s %s", args[0], strings.Trim(args[1], ","), next, strings.Join(r.Channels[1:], " "))
	}
	return r, nil
}

// matcherFinder finds the definition of a site's named matcher; at is the token
// for errors.
type matcherFinder func(at caddyfile.Token, name string) (caddy.ModuleMap, error)

// noMatchers is the matcherFinder of a handler outside of a site.
func noMatchers(at caddyfile.Token, name string) (caddy.ModuleMap, error) {
	return nil, errorAt(at, "the matcher %s cannot be found: named matchers belong to a site", name)
}

// matchersOf returns the matcherFinder of a directive's site.
func matchersOf(h httpcaddyfile.Helper) matcherFinder {
	return func(at caddyfile.Token, name string) (caddy.ModuleMap, error) {
		token := at
		token.Text = name
		d := caddyfile.NewDispenser([]caddyfile.Token{at, token})
		d.Next()
		set, found, err := h.WithDispenser(d).MatcherToken()
		if err != nil {
			return nil, errorAt(at, "%w", err)
		}
		if !found || len(set) == 0 {
			return nil, errorAt(at, "the matcher %s has no condition, so it would match everybody", name)
		}
		return set, nil
	}
}

// findMatcher adds the definition of the rule's named matcher, if it has one.
func (r *AllowRule) findMatcher(find matcherFinder, at caddyfile.Token) error {
	if !strings.HasPrefix(r.Who, "@") {
		return nil
	}
	set, err := find(at, r.Who)
	if err != nil {
		return err
	}
	r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
	return nil
}
