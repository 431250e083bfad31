package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/evstream/caddy-evstream/internal/safehttp"
)

// JWT says which JSON Web Tokens are accepted. A token's user is in the claim
// "sub"; the claim "evstream" may hold patterns that the token allows beside the
// rules: {"subscribe": ["orders/17/**"]}.
type JWT struct {
	// Keys verify tokens: at most 16. They, or a JWKS, are required.
	Keys []Key
	// JWKS is the URL of a JSON Web Key Set, https only. It is fetched when a
	// token first needs it, at most once a minute, with at most 64 KiB and 64
	// keys; keys are used for up to a day if no newer ones can be fetched.
	JWKS string
	// AllowPrivate allows that URL to lead to private addresses, and to be http.
	AllowPrivate bool
	// Algorithms are those that tokens may be signed with. Default: those that
	// the type of a key allows, and of a secret its length.
	Algorithms []string
	// Issuer is the claim "iss" that tokens must have. Default: any, or none.
	Issuer string
	// Audience has values of the claim "aud", of which tokens must have one.
	// Default: any, or none.
	Audience []string
	// Leeway is how long a token is still accepted after it has expired: at most
	// 10m.
	Leeway time.Duration
	// UserClaim is the claim that has the user. Default: "sub".
	UserClaim string
	// NoExpiry accepts tokens that do not expire.
	NoExpiry bool
}

// Key is one key that verifies tokens.
type Key struct {
	// Text is a public key or a certificate as PEM, a JSON Web Key, or else a
	// secret of at least 32 bytes.
	Text string
	// ID is the key id. A token that names another one is not tried with this
	// key. Default: any token is, if its algorithm is of the key's type.
	ID string
}

// maxLeeway bounds how long an expired token can be accepted.
const maxLeeway = 10 * time.Minute

// tokens reads the configuration, without fetching its JWKS.
func (c *JWT) tokens() (*tokens, error) {
	t, err := c.settings()
	if err != nil {
		return nil, err
	}
	for i, k := range c.Keys {
		if err := t.addKey(k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return t, t.checkAlgorithms(c)
}

// Check reports the first impossible value. Keys are not read.
func (c *JWT) Check() error {
	_, err := c.settings()
	return err
}

// CheckKey reports why a key cannot be used. It must not be a placeholder.
func CheckKey(text string) error {
	key, err := readKey(text)
	if err == nil {
		_, err = algorithmsOf(key)
	}
	return err
}

// settings reads all but Keys.
func (c *JWT) settings() (*tokens, error) {
	t := &tokens{
		issuer: c.Issuer, audience: c.Audience, leeway: c.Leeway,
		claim: c.UserClaim, eternal: c.NoExpiry, cache: newTokenCache(),
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
		out, err := safehttp.New(c.JWKS, safehttp.Options{AllowPrivate: c.AllowPrivate, Timeout: jwksTimeout})
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		if host := out.URL.Hostname(); !c.AllowPrivate && safehttp.IsLocal(host) && !safehttp.IsLoopback(host) {
			return nil, fmt.Errorf("jwks: %s is not a public address; allow_private allows private ones", host)
		}
	}
	return t, t.allow(c)
}

// allow reads Algorithms.
func (t *tokens) allow(c *JWT) error {
	if len(c.Algorithms) == 0 {
		t.allowed = algorithmNames
	}
	for _, name := range c.Algorithms {
		a := jose.SignatureAlgorithm(name)
		switch {
		case !slices.Contains(algorithmNames, a):
			return fmt.Errorf("algorithms: %q is not an algorithm; there is: %s", name, strings.Trim(fmt.Sprint(algorithmNames), "[]"))
		case slices.Contains(t.allowed, a):
			return fmt.Errorf("the algorithm %s is given twice", name)
		}
		t.allowed = append(t.allowed, a)
	}
	return nil
}

// addKey reads a key, and binds it to the allowed algorithms of its type. Errors do
// not quote the key.
func (t *tokens) addKey(k Key) error {
	if k.Text == "" {
		return errors.New("it is empty")
	}
	key, err := readKey(k.Text)
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

// checkAlgorithms reports one of Algorithms that no key is for. The keys of a JWKS are
// never symmetric.
func (t *tokens) checkAlgorithms(c *JWT) error {
	for _, name := range c.Algorithms {
		a := jose.SignatureAlgorithm(name)
		used := slices.ContainsFunc(t.keys, func(k verifyKey) bool { return slices.Contains(k.algorithms, a) })
		if !used && (c.JWKS == "" || symmetric(a)) {
			return fmt.Errorf("no key is for the algorithm %s", name)
		}
	}
	return nil
}
