package grip

import (
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

// lifetime is how long a signature is valid.
const lifetime = time.Hour

// Keys are what an application and the proxy know of each other. They are immutable.
type Keys struct {
	publish *key // what publishing needs; nil if nothing
	signs   *key // the requests to the application
	issuer  string
}

// NewKeys returns the keys of a configuration, each as CheckKey has it: key is what
// publishing needs, and signs the requests unless sign does. Without both requests are
// signed with a random secret, because applications take a signature for the sign that
// there is a proxy; without key whoever reaches the endpoint may publish.
func NewKeys(publish, sign, issuer string) (*Keys, error) {
	k := &Keys{issuer: issuer}
	if issuer == "" {
		k.issuer = DefaultIssuer
	}
	var err error
	if publish != "" {
		if k.publish, err = readKey(publish); err != nil {
			return nil, err
		}
		k.signs = k.publish
	}
	switch {
	case sign != "":
		if k.signs, err = readKey(sign); err != nil {
			return nil, fmt.Errorf("sign_key: %w", err)
		}
	case k.signs == nil:
		k.signs = &key{secret: make([]byte, sha256.Size)}
		_, _ = rand.Read(k.signs.secret) // does not fail: it ends the process instead
	}
	return k, nil
}

// useSig is the claim "use" of Grip-Sig, which libraries do not look at. An application may
// show a client the headers of its request, and whoever has them must not publish.
const useSig = "sig"

// Sign returns a token that says who the proxy is: Grip-Sig.
func (k *Keys) Sign(now time.Time) string {
	claims, _ := json.Marshal(struct {
		Issuer  string `json:"iss"`
		Expires int64  `json:"exp"`
		Use     string `json:"use"`
	}{k.issuer, now.Add(lifetime).Unix(), useSig})
	header := `{"alg":"` + k.signs.algorithm() + `","typ":"JWT"}`
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(k.signs.sign(signed))
}

// MayPublish reports why a request may not publish. It needs a token that is signed with
// the key and has the issuer; with a secret "Bearer SECRET" does, too, and the secret as
// the password of Basic.
func (k *Keys) MayPublish(r *http.Request, now time.Time) error {
	if k.publish == nil {
		return nil
	}
	secret := k.publish.secret
	if _, password, ok := r.BasicAuth(); ok {
		if secret != nil && equal([]byte(password), secret) {
			return nil
		}
		return errors.New("the password is not the key")
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return errors.New("publishing needs the key: as Bearer, as the password of Basic, or in the signature of a token")
	}
	if secret != nil && (equal([]byte(token), secret) || equal([]byte(token), []byte("base64:"+base64.StdEncoding.EncodeToString(secret)))) {
		return nil
	}
	return k.verify(token, now)
}

// equal compares secrets in a time that does not depend on them.
func equal(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// open returns the claims of a token that the key has signed.
func (k *key) open(token string) (claims string, err error) {
	errToken := fmt.Errorf("the token is not one that the key has signed with %s", k.algorithm())
	signed, signature, ok := cutLast(token, ".")
	header, claims, two := strings.Cut(signed, ".")
	if !ok || !two || strings.Contains(claims, ".") {
		return "", errToken
	}
	var head struct {
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	if !decode(header, &head) || head.Algorithm != k.algorithm() || head.Critical != nil {
		return "", errToken
	}
	given, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(signature, "="))
	if err != nil || !k.verifies(signed, given) {
		return "", errToken
	}
	return claims, nil
}

// verify reports why a token does not allow to publish.
func (k *Keys) verify(token string, now time.Time) error {
	claims, err := k.publish.open(token)
	if err != nil {
		return err
	}
	var said struct {
		Issuer    string   `json:"iss"`
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
		Use       any      `json:"use"`
	}
	const leeway = 60 // seconds, for clocks that differ
	seconds := float64(now.Unix())
	switch {
	case !decode(claims, &said):
		return errors.New("the claims of the token cannot be read")
	case said.Issuer != k.issuer:
		return fmt.Errorf("the token has the issuer %q, not %q", clip(said.Issuer), k.issuer)
	case said.Use == useSig:
		return errors.New("the token is a Grip-Sig, which says who the proxy is and publishes nothing")
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
