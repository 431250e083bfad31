package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
)

// JWTConfig says which JSON Web Tokens are accepted. A token's user is in the
// claim "sub"; the claim "evstream" may hold patterns that the token allows
// beside the rules: {"subscribe": ["orders/17/**"]}.
type JWTConfig struct {
	// The keys that verify tokens. More than one lets an old and a new one
	// overlap while they are exchanged. Keys, or a JWKS URL, are required.
	Keys []JWTKey `json:"keys,omitempty"`

	// The URL of a JSON Web Key Set, https only. It is fetched when a token
	// first needs it, at most once a minute, with at most 64 KiB and 64 keys;
	// keys are used for up to a day if no newer ones can be fetched.
	JWKS string `json:"jwks,omitempty"`

	// Allow the URL of the JWKS to lead to private addresses, and to be http.
	// A URL that names localhost or a loopback address needs no such word.
	AllowPrivate bool `json:"allow_private,omitempty"`

	// The algorithms that tokens may be signed with: HS256, HS384, HS512,
	// RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA. A key is only
	// ever used with algorithms of its own type. Default: those that the type
	// of a key allows, and of a secret its length.
	Algorithms []string `json:"algorithms,omitempty"`

	// The claim "iss" that tokens must have. Default: any, or none.
	Issuer string `json:"issuer,omitempty"`

	// Values of the claim "aud", of which tokens must have one. Default: any,
	// or none.
	Audience []string `json:"audience,omitempty"`

	// How long a token is still accepted after it has expired, for clocks that
	// differ. 5s are forgiven to "nbf" and "iat" in any case. Default: 0; at
	// most 10m.
	Leeway caddy.Duration `json:"leeway,omitempty"`

	// The claim that has the user. Default: "sub".
	UserClaim string `json:"user_claim,omitempty"`

	// Accept tokens that do not expire. They are good until their key is
	// exchanged, or they are revoked.
	InsecureNoExpiry bool `json:"insecure_no_expiry,omitempty"`
}

// JWTKey is one key that verifies tokens.
type JWTKey struct {
	// A public key or a certificate as PEM, a JSON Web Key, or else a secret of
	// at least 32 bytes. It may be {env.NAME} or {file./abs/path}; unset or
	// empty is an error. Required.
	Key string `json:"key"`
	// The key id. A token that names another one is not tried with this key.
	// Default: any token is, if its algorithm is of the key's type.
	ID string `json:"kid,omitempty"`
}

// credentials are the ways to find out who makes a request, beside the bearers.
// Each is off unless it is configured.
type credentials struct {
	hub         *hub    // that knows what was revoked, and which tickets were used
	tokens      *tokens // nil: none
	cookie      string  // the name of the cookie with a token; "": none
	parameter   string  // the name of the query parameter with a secret; "": none
	tickets     *tickets
	caddyAuth   bool
	application *application
	logger      *slog.Logger

	release []func() error // gives back what was taken
}

// open reads how a handler finds out who makes a request. What it has taken
// is given back by close, also after an error.
func (c *credentials) open(h *Handler, hub *hub, log *slog.Logger) error {
	c.hub, c.logger = hub, log
	if err := h.checkCredentials(); err != nil {
		return err
	}
	if h.JWT != nil {
		if err := c.openTokens(h.JWT); err != nil {
			return fmt.Errorf("jwt: %w", err)
		}
	}
	c.cookie, c.parameter, c.caddyAuth = h.Cookie, h.InsecureQueryToken, h.CaddyAuth
	if c.parameter != "" {
		log.Warn("credentials are accepted in the query, where access logs, histories and other sites may get to see them; a ticket or a cookie would be safer",
			slog.String("parameter", c.parameter))
	}
	if h.JWT != nil && h.JWT.InsecureNoExpiry {
		log.Warn("tokens are accepted that never expire")
	}
	var err error
	if h.Tickets != nil {
		if c.tickets, err = newTickets(h.Tickets, hub.key.name, h.Mount); err != nil {
			return fmt.Errorf("tickets: %w", err)
		}
	}
	if h.Verify != nil {
		if c.application, err = newApplication(h.Verify, log); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		c.release = append(c.release, func() error { c.application.out.idle(); return nil })
	}
	return nil
}

// close gives back what open took.
func (c *credentials) close() error {
	var errs []error
	for _, release := range c.release {
		errs = append(errs, release())
	}
	c.release = nil
	return errors.Join(errs...)
}

func (c *credentials) openTokens(config *JWTConfig) error {
	t, err := config.tokens(caddy.NewReplacer())
	if err != nil {
		return err
	}
	if config.JWKS != "" {
		key := keySetKey{config.JWKS, config.AllowPrivate}
		if t.set, err = openKeySet(key); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
		c.release = append(c.release, func() error { _, err := keySets.Delete(key); return err })
	}
	c.tokens = t
	return nil
}

// checkCredentials reports what cannot stand together, or alone.
func (h *Handler) checkCredentials() error {
	switch {
	case h.Cookie != "" && h.JWT == nil:
		return errors.New("cookie names the cookie that has a token, so jwt has to say which tokens are accepted")
	case h.InsecureQueryToken != "" && h.JWT == nil && len(h.Bearers) == 0:
		return errors.New("insecure_query_token needs a bearer or jwt: nothing is accepted that could be in the query")
	case h.Tickets != nil && h.JWT == nil && len(h.Bearers) == 0 && !h.CaddyAuth && h.Verify == nil:
		return errors.New("tickets needs another credential, for which a ticket is given: bearer, jwt, caddy_auth or verify")
	}
	if h.Cookie != "" && !isToken(h.Cookie) {
		return fmt.Errorf("%q cannot name a cookie", h.Cookie)
	}
	if p := h.InsecureQueryToken; p != "" && (!isToken(p) || slices.Contains(ownParameters, p)) {
		return fmt.Errorf("insecure_query_token: %q cannot name the parameter: it has letters, digits, - and _, and is none of the hub's own: %s", p, strings.Join(ownParameters, ", "))
	}
	return nil
}

// ownParameters have a meaning of their own.
var ownParameters = []string{
	"after", "broker", "channel", "envelope", "event", "evs_last_event_id", "evs_preamble", "except", "history", "id",
	"incr", "info", "last", "lastEventId", "last_event_id", "limit", "open", "padding", "poll", "prefix", "retry",
	"session", "since", "ticket", "timeout",
}

// isToken reports whether s is a name that needs no escape anywhere.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		return !letter && (c < '0' || c > '9') && c != '-' && c != '_'
	}) < 0
}

// maxLeeway bounds how long an expired token can be accepted.
const maxLeeway = 10 * time.Minute

// tokens reads the configuration, without fetching its JWKS.
func (c *JWTConfig) tokens(repl *caddy.Replacer) (*tokens, error) {
	t, err := c.settings()
	if err != nil {
		return nil, err
	}
	for i, k := range c.Keys {
		if err := t.addKey(k, repl); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return t, t.checkAlgorithms(c)
}

// settings reads all but the keys, which may not be there yet.
func (c *JWTConfig) settings() (*tokens, error) {
	t := &tokens{
		issuer: c.Issuer, audience: c.Audience, leeway: time.Duration(c.Leeway),
		claim: c.UserClaim, eternal: c.InsecureNoExpiry,
	}
	if t.claim == "" {
		t.claim = "sub"
	}
	switch {
	case len(c.Keys) == 0 && c.JWKS == "":
		return nil, errors.New("there is no key: give key or jwks")
	case len(c.Keys) > 16:
		return nil, fmt.Errorf("there are %d keys, at most 16 are accepted", len(c.Keys))
	case t.leeway < 0 || t.leeway > maxLeeway:
		return nil, fmt.Errorf("leeway must be at most %s, not %s", maxLeeway, t.leeway)
	case slices.Contains(c.Audience, ""):
		return nil, errors.New("an audience is empty")
	case c.AllowPrivate && c.JWKS == "":
		return nil, errors.New("allow_private is about jwks, which is not given")
	}
	if c.JWKS != "" {
		out, err := newOutgoing(c.JWKS, c.AllowPrivate, jwksTimeout)
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		if host := out.url.Hostname(); !c.AllowPrivate && literal(host) && !loopback(host) {
			return nil, fmt.Errorf("jwks: %s is not a public address; allow_private allows private ones", host)
		}
	}
	return t, t.allow(c)
}

// allow reads the algorithms. Those of a JWKS are never symmetric.
func (t *tokens) allow(c *JWTConfig) error {
	if len(c.Algorithms) == 0 {
		t.allowed = algorithmNames
	}
	for _, name := range c.Algorithms {
		a := jose.SignatureAlgorithm(name)
		switch {
		case !slices.Contains(algorithmNames, a):
			return fmt.Errorf("%q is not an algorithm, only %v", name, algorithmNames)
		case slices.Contains(t.allowed, a):
			return fmt.Errorf("the algorithm %s is given twice", name)
		}
		t.allowed = append(t.allowed, a)
	}
	return nil
}

// addKey reads a key, and binds it to those of the algorithms that are of its
// type. Errors do not tell the key.
func (t *tokens) addKey(k JWTKey, repl *caddy.Replacer) error {
	text := k.Key
	if !json.Valid([]byte(text)) { // a JSON Web Key has braces of its own
		var err error
		if text, err = repl.ReplaceOrErr(k.Key, true, true); err != nil {
			return err
		}
	}
	if text == "" {
		return errors.New("it is empty")
	}
	key, err := readKey(text)
	if err != nil {
		return err
	}
	fits, err := algorithmsOf(key)
	if err != nil {
		return err
	}
	both := slices.DeleteFunc(slices.Clone(fits), func(a jose.SignatureAlgorithm) bool { return !slices.Contains(t.allowed, a) })
	if len(both) == 0 {
		return fmt.Errorf("it is for %v, of which algorithms has none", fits)
	}
	t.keys = append(t.keys, verifyKey{id: k.ID, key: key, algorithms: both, source: sourceOf(key)})
	return nil
}

// checkAlgorithms reports an algorithm that was written and that no key is for.
func (t *tokens) checkAlgorithms(c *JWTConfig) error {
	for _, name := range c.Algorithms {
		a := jose.SignatureAlgorithm(name)
		used := slices.ContainsFunc(t.keys, func(k verifyKey) bool { return slices.Contains(k.algorithms, a) })
		if !used && (c.JWKS == "" || symmetric(a)) {
			return fmt.Errorf("no key is for the algorithm %s", name)
		}
	}
	return nil
}
