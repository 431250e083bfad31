package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
)

// authConfig returns how callers are identified. Placeholders are not replaced.
func (h *Handler) authConfig() *auth.Config {
	c := &auth.Config{Bearers: h.Bearers, Cookie: h.Cookie, QueryParameter: h.InsecureQueryToken}
	if h.JWT != nil {
		c.JWT = h.JWT.plain()
	}
	if h.Tickets != nil {
		c.Tickets = h.Tickets.plain()
	}
	if h.CaddyAuth {
		c.Outer = outerUser
	}
	if h.Verify != nil {
		c.Verify = h.Verify.plain()
	}
	return c
}

func (c *JWTConfig) plain() *auth.JWT {
	j := &auth.JWT{
		JWKS: c.JWKS, AllowPrivate: c.AllowPrivate, Algorithms: c.Algorithms, Issuer: c.Issuer, Audience: c.Audience,
		Leeway: time.Duration(c.Leeway), UserClaim: c.UserClaim, NoExpiry: c.InsecureNoExpiry,
	}
	for _, k := range c.Keys {
		j.Keys = append(j.Keys, auth.Key{Text: k.Key, ID: k.ID})
	}
	return j
}

func (c *TicketsConfig) plain() *auth.Tickets {
	return &auth.Tickets{Lifetime: time.Duration(c.Lifetime), Keys: slices.Clone(c.Keys)}
}

func (c *VerifyConfig) plain() *auth.Verify {
	return &auth.Verify{
		URL: c.URL, Timeout: time.Duration(c.Timeout), Cache: time.Duration(c.Cache), Forward: c.Forward, AllowPrivate: c.AllowPrivate,
	}
}

// The placeholders that secrets are read with.
var (
	envPlaceholder  = regexp.MustCompile(`\{env\.([^}]*)\}`)
	filePlaceholder = regexp.MustCompile(`\{file\.([^}]*)\}`)
)

// replaced replaces the placeholders of s. Unset and empty ones are errors.
func replaced(repl *caddy.Replacer, s string) (string, error) {
	for _, m := range envPlaceholder.FindAllStringSubmatch(s, -1) {
		if os.Getenv(m[1]) == "" {
			return "", fmt.Errorf("%s must be set in the environment of the running Caddy, and is unset or empty", m[0])
		}
	}
	for _, m := range filePlaceholder.FindAllStringSubmatch(s, -1) {
		file, err := os.Open(m[1])
		if err != nil {
			return "", fmt.Errorf("%s cannot be read by the running Caddy: %w", m[0], err)
		}
		_ = file.Close() // nothing was written
	}
	out, err := repl.ReplaceOrErr(s, true, true)
	if err != nil {
		return "", fmt.Errorf("%w; what is not the value itself is {env.NAME} or {file./absolute/path}", err)
	}
	return out, nil
}

// resolve replaces the placeholders of secrets and keys. Errors do not quote them.
func resolve(c *auth.Config) error {
	repl := caddy.NewReplacer()
	bearers := make(map[string]string, len(c.Bearers))
	for name, raw := range c.Bearers {
		secret, err := replaced(repl, raw)
		if err != nil {
			return fmt.Errorf("the secret of bearer %q: %w", name, err)
		}
		if secret == "" {
			return fmt.Errorf("the secret of bearer %q is empty", name)
		}
		bearers[name] = secret
	}
	c.Bearers = bearers
	if c.JWT != nil {
		for i := range c.JWT.Keys {
			text := &c.JWT.Keys[i].Text
			if json.Valid([]byte(*text)) {
				continue // a JSON Web Key has braces of its own
			}
			var err error
			if *text, err = replaced(repl, *text); err != nil {
				return fmt.Errorf("jwt: key %d: %w", i+1, err)
			}
		}
	}
	if c.Tickets != nil {
		for i := range c.Tickets.Keys {
			var err error
			if c.Tickets.Keys[i], err = replaced(repl, c.Tickets.Keys[i]); err != nil {
				return fmt.Errorf("tickets: key %d: %w", i+1, err)
			}
		}
	}
	return nil
}

// rule returns r without the function of its matcher.
func (r *AllowRule) rule() access.Rule {
	return access.Rule{Who: r.Who, Claim: r.Claim, Value: r.Value, Do: r.Do, Channels: r.Channels, Matcher: r.definition()}
}

// definition identifies the matcher of a rule; it is "" if there is none.
func (r *AllowRule) definition() string {
	if r.MatcherSetsRaw == nil {
		return ""
	}
	definition, _ := json.Marshal(r.MatcherSetsRaw) // raw messages do not fail
	return string(definition)
}

// policy returns the rules of the handler, with their matchers loaded.
func (h *Handler) policy(ctx caddy.Context, c *auth.Config) (*access.Policy, error) {
	if len(h.Allow) == 0 {
		return access.AllowNone(), nil // errNoRule was reported where there have to be some
	}
	rules := make([]access.Rule, 0, len(h.Allow))
	loaded := make(map[string]func(*http.Request) bool)
	for i := range h.Allow {
		r := h.Allow[i].rule()
		if err := r.Check(c.BearerNames()); err != nil {
			return nil, fmt.Errorf("%s: %w", &r, err)
		}
		if strings.HasPrefix(r.Who, "@") {
			if loaded[r.Matcher] == nil {
				match, err := loadMatcher(ctx, h.Allow[i])
				if err != nil {
					return nil, fmt.Errorf("%s: %w", &r, err)
				}
				loaded[r.Matcher] = match
			}
			r.Match = loaded[r.Matcher]
		}
		rules = append(rules, r)
	}
	return c.Policy(rules)
}

// loadMatcher loads the matcher of a rule. One that has no condition is an error:
// it would match everybody.
func loadMatcher(ctx caddy.Context, rule AllowRule) (func(*http.Request) bool, error) {
	if len(rule.MatcherSetsRaw) == 0 || slices.ContainsFunc(rule.MatcherSetsRaw, func(set caddy.ModuleMap) bool { return len(set) == 0 }) {
		return nil, fmt.Errorf("the matcher %s has no condition, so it would match everybody", rule.Who)
	}
	module, err := ctx.LoadModule(&rule, "MatcherSetsRaw") // of the copy, because loading clears the field
	if err != nil {
		return nil, fmt.Errorf("loading the matcher: %w", err)
	}
	var sets caddyhttp.MatcherSets
	if err := sets.FromInterface(module); err != nil {
		return nil, err
	}
	return func(r *http.Request) bool {
		if _, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok {
			return false // matchers need a Replacer
		}
		match, err := sets.AnyMatchWithError(r)
		return match && err == nil
	}, nil
}

// errNoRule is the error of a handler that allows nothing.
var errNoRule = errors.New("nothing is allowed: a handler needs at least one rule, such as \"allow anyone subscribe **\"")
