package evstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
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
)

// maxToken is the size of a token, in bytes. A longer one is not looked at.
const maxToken = 8 << 10

// clockSlack is forgiven where a token says when it was issued and from when
// on it is good: the issuer's clock may be ahead.
const clockSlack = 5 * time.Second

// tokens verifies JSON Web Tokens. It does not change once it is made.
type tokens struct {
	keys     []verifyKey
	set      *keySet // nil: no JWKS
	allowed  []jose.SignatureAlgorithm
	issuer   string
	audience []string
	leeway   time.Duration
	claim    string // the user's
	eternal  bool   // tokens need not expire
}

// verifyKey is a key, bound to the algorithms that it may verify: a token
// cannot choose that a public key is taken for a secret.
type verifyKey struct {
	id         string // "": any token may be meant for it
	key        any
	algorithms []jose.SignatureAlgorithm
	source     string // of a caller whose token it verifies; a set of keys has its own
}

// fits reports whether a token of this algorithm and key id may be verified
// with the key.
func (k *verifyKey) fits(algorithm jose.SignatureAlgorithm, id string) bool {
	return slices.Contains(k.algorithms, algorithm) && (k.id == "" || id == "" || k.id == id)
}

// sourceOf names a key without telling it.
func sourceOf(key any) string {
	text, secret := key.([]byte)
	if !secret {
		text, _ = x509.MarshalPKIXPublicKey(key) // cannot fail for those that are accepted
	}
	digest := sha256.Sum256(text)
	return "key " + hex.EncodeToString(digest[:])
}

// vouches reports whether what has verified a token verifies others still.
func (t *tokens) vouches(proof []byte) bool {
	return t.set != nil && bytes.Equal(proof, proofOf(t.set.source())) ||
		slices.ContainsFunc(t.keys, func(k verifyKey) bool { return bytes.Equal(proof, proofOf(k.source)) })
}

// errToken is the error of a token that is not accepted. What it wraps is for
// the log: whoever sent the token is not told what would have been better.
var errToken = errors.New("the token is not accepted here")

// errExpired is the error of a token whose time is over. That may be told: the
// signature was good.
var errExpired = errors.New("the token has expired")

// verify reads a token. Offline, no keys are waited for: those that are known
// decide.
func (t *tokens) verify(ctx context.Context, token string, now time.Time, offline bool) (caller, error) {
	payload, source, err := t.open(ctx, token, offline)
	if err != nil {
		return caller{}, err
	}
	c, err := readClaims(payload)
	if err != nil {
		return caller{}, fmt.Errorf("%w: %w", errToken, err)
	}
	if err := t.check(&c.std, now); err != nil {
		return caller{}, err
	}
	who := caller{method: byToken, source: source, tokenID: c.std.ID}
	if who.tokenID == "" {
		// A token without an id can be revoked by the digest of what is signed.
		// The signature is no part of it: who has one of ECDSA can make another
		// that is as good.
		digest := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
		who.tokenID = "sha256:" + hex.EncodeToString(digest[:])
	}
	if err := who.take(c); err != nil {
		return caller{}, fmt.Errorf("%w: %w", errToken, err)
	}
	if !who.expires.IsZero() && !now.Before(who.expires) {
		who.expires = who.expires.Add(t.leeway) // it lives by the leeway
	}
	who.user, err = t.user(c)
	return who, err
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

// open verifies the signature, and returns what is signed, and by what: a
// caller's source. The token names its algorithm and its key; neither is
// believed beyond a choice among those that are configured. A key or an address
// of keys in its header is ignored.
func (t *tokens) open(ctx context.Context, token string, offline bool) (payload []byte, source string, err error) {
	if len(token) > maxToken {
		return nil, "", fmt.Errorf("%w: it has %d bytes, at most %d are looked at", errToken, len(token), maxToken)
	}
	signed, err := jose.ParseSignedCompact(token, t.allowed)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errToken, err)
	}
	if !spelledOnce(token) {
		return nil, "", fmt.Errorf("%w: its base64 is not as RFC 7515 has it", errToken)
	}
	header := signed.Signatures[0].Protected
	algorithm := jose.SignatureAlgorithm(header.Algorithm)
	for i := range t.keys {
		if t.keys[i].fits(algorithm, header.KeyID) {
			if payload, err := signed.Verify(t.keys[i].key); err == nil {
				return payload, t.keys[i].source, nil
			}
		}
	}
	if t.set != nil {
		found, err := t.set.find(ctx, algorithm, header.KeyID, offline)
		if err != nil {
			return nil, "", err
		}
		for i := range found {
			if payload, err := signed.Verify(found[i].key); err == nil {
				return payload, t.set.source(), nil
			}
		}
	}
	return nil, "", fmt.Errorf("%w: no key verifies it", errToken)
}

// spelledOnce reports whether a token has no other spelling: the decoder of
// base64 passes over line breaks, and over bits that no byte has. A token that
// was revoked would come back in another spelling.
func spelledOnce(token string) bool {
	for part := range strings.SplitSeq(token, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return !strings.ContainsAny(token, "\r\n")
}

// check decides about the registered claims.
func (t *tokens) check(c *jwt.Claims, now time.Time) error {
	slack := max(t.leeway, clockSlack)
	switch {
	case c.Expiry == nil && !t.eternal:
		return fmt.Errorf("%w: it has no exp", errToken)
	case c.Expiry != nil && !now.Add(-t.leeway).Before(c.Expiry.Time()):
		return errExpired
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

// claims is a JSON object of claims, read twice: the registered ones, and all.
type claims struct {
	std jwt.Claims
	all map[string]any
}

// readClaims reads a JSON object of claims. Numbers stay as they are written.
func readClaims(raw []byte) (claims, error) {
	var c claims
	if !utf8.Valid(raw) {
		return c, errors.New("the claims are not UTF-8")
	}
	// This decoder refuses an object that has a name twice, and takes names by
	// their case, as other readers of the same claims would.
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

// readKey reads a key as it stands in a configuration: a public key or a
// certificate as PEM, a JSON Web Key, or else a secret.
func readKey(text string) (any, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "-----BEGIN"):
		return readPEM(trimmed)
	case strings.HasPrefix(trimmed, "{"):
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON([]byte(trimmed)); err != nil {
			return nil, errors.New("it begins like a JSON Web Key and is none; a set of them is read with jwks, from a URL")
		}
		if _, secret := key.Key.([]byte); !secret && !key.IsPublic() {
			return nil, errPrivateKey
		}
		return key.Key, nil
	case looksPublic(trimmed):
		return nil, errors.New("it looks like a public key, which as a secret would be known to everybody; write it as PEM, with its BEGIN and END lines")
	case trimmed != text:
		return nil, errors.New("the secret begins or ends with white space")
	}
	return []byte(text), nil
}

var errPrivateKey = errors.New("it is a private key, which is not needed to verify: give the public key")

// algorithmsOf returns what a key may be used with, by its type and strength.
func algorithmsOf(key any) ([]jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case []byte:
		var fits []jose.SignatureAlgorithm
		for _, a := range []struct {
			name  jose.SignatureAlgorithm
			least int
		}{{jose.HS256, 32}, {jose.HS384, 48}, {jose.HS512, 64}} {
			if len(k) >= a.least {
				fits = append(fits, a.name)
			}
		}
		if fits == nil {
			return nil, fmt.Errorf("the secret has %d bytes, at least 32 are needed", len(k))
		}
		return fits, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return nil, fmt.Errorf("the RSA key has %d bits, 2048 to 8192 are accepted", bits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
		return nil, errors.New("the key is of another curve than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, fmt.Errorf("a key of type %T verifies no token", key)
}

// algorithmNames are those that can be configured.
var algorithmNames = []jose.SignatureAlgorithm{
	jose.HS256, jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// symmetric reports whether whoever can verify with an algorithm can also sign.
func symmetric(a jose.SignatureAlgorithm) bool { return strings.HasPrefix(string(a), "HS") }
