package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/evstream/caddy-evstream/access"
)

// maxToken is the size of a token, in bytes. A longer one is not looked at.
const maxToken = 8 << 10

// clockSlack is how far in the future the claims iat and nbf may be: the issuer's
// clock may be ahead.
const clockSlack = 5 * time.Second

// tokens verifies JSON Web Tokens. But for its cache it does not change once it is made.
type tokens struct {
	cache    *tokenCache
	keys     []verifyKey
	set      *keySet // nil: no JWKS
	allowed  []jose.SignatureAlgorithm
	issuer   string
	audience []string
	leeway   time.Duration
	claim    string // the user's
	eternal  bool   // tokens need not expire
}

// verifyKey is a key, bound to its algorithms: no token can have a public key used as
// a secret.
type verifyKey struct {
	id         string // "": any token may be meant for it
	key        any
	algorithms []jose.SignatureAlgorithm
	source     string // Caller.Source; "" in a keySet, which has its own
}

// fits reports whether a token of this algorithm and key id may be verified
// with the key.
func (k *verifyKey) fits(algorithm jose.SignatureAlgorithm, id string) bool {
	return slices.Contains(k.algorithms, algorithm) && (k.id == "" || id == "" || k.id == id)
}

// sourceOf names a key, without what it is.
func sourceOf(key any) string {
	text, secret := key.([]byte)
	if !secret {
		text, _ = x509.MarshalPKIXPublicKey(key) // cannot fail for those that are accepted
	}
	digest := sha256.Sum256(text)
	return "key " + hex.EncodeToString(digest[:])
}

// vouches reports whether proof is that of a key, or a set of keys, which verifies
// tokens here.
func (t *tokens) vouches(proof []byte) bool {
	return t.set != nil && bytes.Equal(proof, proofOf(t.set.source())) ||
		slices.ContainsFunc(t.keys, func(k verifyKey) bool { return bytes.Equal(proof, proofOf(k.source)) })
}

// errToken is the error of a token that is not accepted. The reason, which it is
// wrapped with, is only logged.
var errToken = errors.New("the token is not accepted here")

// verify reads a token. If offline is set, it does not wait for keys, but uses those
// that are known. What does not depend on the time is remembered. The Caller is shared.
func (t *tokens) verify(ctx context.Context, token string, now time.Time, offline bool) (*access.Caller, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are looked at", errToken, len(token), maxToken)
	}
	digest := sha256.Sum256([]byte(token))
	v := t.remembered(digest, now)
	known := v != nil
	if !known {
		var err error
		if v, err = t.read(ctx, token, offline); err != nil {
			return nil, err
		}
	}
	if err := t.check(&v.std, now); err != nil {
		return nil, err
	}
	if !known {
		t.cache.set(digest, v, now)
	}
	if who := v.who; who.Expires.IsZero() || now.Before(who.Expires) {
		return who, nil
	}
	late := *v.who // it has expired, within the leeway
	late.Expires = late.Expires.Add(t.leeway)
	return &late, nil
}

// read verifies the signature of a token, and reads its claims. Those that the clock
// and the configuration decide on are not checked.
func (t *tokens) read(ctx context.Context, token string, offline bool) (*verified, error) {
	payload, source, version, err := t.open(ctx, token, offline)
	if err != nil {
		return nil, err
	}
	c, err := readClaims(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errToken, err)
	}
	who := &access.Caller{Method: access.ByToken, Source: source, TokenID: c.std.ID}
	if who.TokenID == "" {
		// A token without an id can be revoked by the digest of what is signed,
		// without the signature: from one of ECDSA anybody can make another that is
		// valid, too.
		digest := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
		who.TokenID = "sha256:" + hex.EncodeToString(digest[:])
	}
	if err := c.setOn(who); err != nil {
		return nil, fmt.Errorf("%w: %w", errToken, err)
	}
	if !who.Issued.IsZero() {
		// The issuer's clock may have been ahead by so much. A revocation covers the
		// token then, too.
		who.Issued = who.Issued.Add(-t.slack())
	}
	if who.User, err = t.user(c); err != nil {
		return nil, err
	}
	return &verified{std: c.std, who: who, version: version}, nil
}

// user is the user that claims name; "" is none.
func (t *tokens) user(c claims) (string, error) {
	claim, given := c.all[t.claim]
	user, ok := claim.(string)
	if given && !ok {
		return "", fmt.Errorf("%w: the claim %q is not a string", errToken, t.claim)
	}
	return user, nil
}

// open verifies the signature. It returns what is signed, the Caller.Source of the key
// that verifies it, and the version of the JWKS that the key is of, 0 for none. The
// algorithm and the key id in the token's header only choose among what is configured; a
// key, or an address of keys, in it is ignored.
func (t *tokens) open(ctx context.Context, token string, offline bool) (payload []byte, source string, version uint64, err error) {
	signed, err := jose.ParseSignedCompact(token, t.allowed)
	if err != nil {
		return nil, "", 0, fmt.Errorf("%w: %w", errToken, err)
	}
	if !spelledOnce(token) {
		return nil, "", 0, fmt.Errorf("%w: its base64 is not as RFC 7515 has it", errToken)
	}
	header := signed.Signatures[0].Protected
	algorithm := jose.SignatureAlgorithm(header.Algorithm)
	for i := range t.keys {
		if t.keys[i].fits(algorithm, header.KeyID) {
			if payload, err := signed.Verify(t.keys[i].key); err == nil {
				return payload, t.keys[i].source, 0, nil
			}
		}
	}
	if t.set != nil {
		found, version, err := t.set.find(ctx, algorithm, header.KeyID, offline)
		if err != nil {
			return nil, "", 0, err
		}
		for i := range found {
			if payload, err := signed.Verify(found[i].key); err == nil {
				return payload, t.set.source(), version, nil
			}
		}
	}
	return nil, "", 0, fmt.Errorf("%w: no key verifies it", errToken)
}

// spelledOnce reports whether a token is encoded in the one strict way. A lenient
// decoder of base64 ignores line breaks and the last bits: a token that was revoked
// would be accepted in another spelling.
func spelledOnce(token string) bool {
	for part := range strings.SplitSeq(token, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return !strings.ContainsAny(token, "\r\n")
}

// slack is how far in the future the claims iat and nbf may be.
func (t *tokens) slack() time.Duration { return max(t.leeway, clockSlack) }

// check reports why the registered claims do not let a token be accepted now.
func (t *tokens) check(c *jwt.Claims, now time.Time) error {
	slack := t.slack()
	switch {
	case c.Expiry == nil && !t.eternal:
		return fmt.Errorf("%w: it has no exp", errToken)
	case c.Expiry != nil && !now.Add(-t.leeway).Before(c.Expiry.Time()):
		return access.ErrExpired
	case c.NotBefore != nil && now.Add(slack).Before(c.NotBefore.Time()):
		return fmt.Errorf("%w: its nbf is to come", errToken)
	case c.IssuedAt != nil && now.Add(slack).Before(c.IssuedAt.Time()):
		return fmt.Errorf("%w: its iat is to come", errToken)
	case t.issuer != "" && c.Issuer != t.issuer:
		return fmt.Errorf("%w: its iss is another", errToken)
	case len(t.audience) > 0 && !slices.ContainsFunc(t.audience, c.Audience.Contains):
		return fmt.Errorf("%w: its aud is another", errToken)
	}
	return nil
}

// claims is a JSON object of claims: the registered ones, and all of them.
type claims struct {
	std jwt.Claims
	all map[string]any
}

// setOn sets the claims on who, and its expiry, time of issue and grants from them.
func (c *claims) setOn(who *access.Caller) error {
	who.Claims = c.all
	if c.std.Expiry != nil {
		who.Expires = c.std.Expiry.Time()
	}
	if c.std.IssuedAt != nil {
		who.Issued = c.std.IssuedAt.Time()
	}
	claim, ok := c.all[access.GrantsClaim]
	if !ok {
		return nil
	}
	var err error
	who.Grants, err = access.ReadGrants(claim)
	return err
}

// readClaims reads a JSON object of claims. Numbers stay as they are written.
func readClaims(raw []byte) (claims, error) {
	var c claims
	if !utf8.Valid(raw) {
		return c, errors.New("the claims are not UTF-8")
	}
	// This decoder refuses an object that has a name twice, and tells names apart by
	// case, as other readers of the same claims do.
	var once map[string]any
	if err := josejson.Unmarshal(raw, &once); err != nil {
		return c, fmt.Errorf("reading claims: %w", err)
	}
	if err := josejson.Unmarshal(raw, &c.std); err != nil {
		return c, fmt.Errorf("reading claims: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&c.all); err != nil {
		return c, fmt.Errorf("reading claims: %w", err)
	}
	if c.all == nil {
		return c, errors.New("the claims are not an object")
	}
	return c, nil
}
