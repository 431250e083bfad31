package grip

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// DefaultIssuer is the issuer of Grip-Sig if none is configured.
const DefaultIssuer = "evstream"

// MinKey is the shortest key, in bytes. MinKey is low because what others call the
// default key, "changeme", is for a test on one host.
const MinKey = 8

// lifetime is how long a signature is valid.
const lifetime = time.Hour

// Keys are what an application and the proxy know of each other.
type Keys struct {
	key    []byte // nil if none is configured
	issuer string
	random []byte // signs what nobody can check; without a key
}

// NewKeys returns the keys of a configuration. A key that begins with "base64:" is
// decoded. Without a key requests are signed with a random one, because applications
// take a signature for the sign that there is a proxy; and whoever reaches the endpoint
// may publish.
func NewKeys(key, issuer string) (*Keys, error) {
	k := &Keys{issuer: issuer}
	if issuer == "" {
		k.issuer = DefaultIssuer
	}
	if key == "" {
		k.random = make([]byte, sha256.Size)
		_, _ = rand.Read(k.random) // does not fail: it ends the process instead
		return k, nil
	}
	k.key = []byte(key)
	if encoded, ok := strings.CutPrefix(key, "base64:"); ok {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, errors.New("the key begins with base64: but what follows is not standard base64")
		}
		k.key = decoded
	}
	if len(k.key) < MinKey {
		return nil, fmt.Errorf("the key has %d bytes, at least %d are needed", len(k.key), MinKey)
	}
	return k, nil
}

// jwtHeader is the header of all tokens that are signed here.
var jwtHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// Sign returns a token that says who the proxy is: Grip-Sig.
func (k *Keys) Sign(now time.Time) string {
	claims, _ := json.Marshal(struct {
		Issuer  string `json:"iss"`
		Expires int64  `json:"exp"`
	}{k.issuer, now.Add(lifetime).Unix()})
	signed := jwtHeader + "." + base64.RawURLEncoding.EncodeToString(claims)
	key := k.key
	if key == nil {
		key = k.random
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac(key, signed))
}

func mac(key []byte, signed string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(signed))
	return h.Sum(nil)
}

// MayPublish reports why a request may not publish. With a key it needs "Bearer KEY", or
// a token that is signed with the key and has the issuer, or the key as the password of
// Basic.
func (k *Keys) MayPublish(r *http.Request, now time.Time) error {
	if k.key == nil {
		return nil
	}
	if _, password, ok := r.BasicAuth(); ok {
		if equal([]byte(password), k.key) {
			return nil
		}
		return errors.New("the password is not the key")
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return errors.New("publishing needs the key: as Bearer, as the password of Basic, or in the signature of a token")
	}
	if equal([]byte(token), k.key) || equal([]byte(token), []byte("base64:"+base64.StdEncoding.EncodeToString(k.key))) {
		return nil
	}
	return k.verify(token, now)
}

// equal compares secrets in a time that does not depend on them.
func equal(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

var errToken = errors.New("the token is not one that the key has signed with HS256")

// verify reports why a token does not allow to publish.
func (k *Keys) verify(token string, now time.Time) error {
	signed, signature, ok := cutLast(token, ".")
	header, claims, two := strings.Cut(signed, ".")
	if !ok || !two || strings.Contains(claims, ".") {
		return errToken
	}
	var head struct {
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	if !decode(header, &head) || head.Algorithm != "HS256" || head.Critical != nil {
		return errToken
	}
	given, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(signature, "="))
	if err != nil || !hmac.Equal(given, mac(k.key, signed)) {
		return errToken
	}
	var said struct {
		Issuer    string   `json:"iss"`
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
	}
	const leeway = 60 // seconds, for clocks that differ
	seconds := float64(now.Unix())
	switch {
	case !decode(claims, &said):
		return errToken
	case said.Issuer != k.issuer:
		return fmt.Errorf("the token has the issuer %q, not %q", clip(said.Issuer), k.issuer)
	case said.Expires == nil:
		return errors.New("the token does not expire: it needs exp")
	case *said.Expires < seconds-leeway:
		return errors.New("the token has expired")
	case said.NotBefore != nil && *said.NotBefore > seconds+leeway:
		return errors.New("the token is not valid yet")
	}
	return nil
}

func decode(part string, into any) bool {
	text, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(part, "="))
	return err == nil && json.Unmarshal(text, into) == nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
