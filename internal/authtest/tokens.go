// Package authtest makes credentials for tests: tokens, their keys, and an
// application that identifies callers.
package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Secret verifies and signs the tokens of most tests.
const Secret = "a secret of tests that has no less than 64 bytes, as HS512 needs."

// Claims are the claims of a token.
type Claims = jwt.MapClaims

// keyPairs makes a key pair for each algorithm, once.
var keyPairs = sync.OnceValue(func() map[string]crypto.Signer {
	keys := make(map[string]crypto.Signer)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[alg] = rsaKey
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if keys[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			panic(err)
		}
	}
	if _, keys["EdDSA"], err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return keys
})

// PrivateKey returns the private key of an algorithm, always the same in one test
// binary; nil for HS.
func PrivateKey(alg string) crypto.Signer { return keyPairs()[alg] }

// PublicPEM returns the public key of an algorithm as PEM.
func PublicPEM(t testing.TB, alg string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(PrivateKey(alg).Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// JWK returns the public key of an algorithm as a JSON Web Key.
func JWK(alg, kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: PrivateKey(alg).Public(), KeyID: kid, Use: "sig"}
}

// Serve serves a document, such as a set of keys, on this host until the test
// ends, and returns its URL.
func Serve(t testing.TB, doc any) string {
	t.Helper()
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	t.Cleanup(s.Close)
	return s.URL
}

// Sign makes a token, with another library than the one that verifies it. The key
// is Secret for HS.
func Sign(t testing.TB, alg string, claims Claims, header ...map[string]any) string {
	t.Helper()
	var key any = []byte(Secret)
	if !strings.HasPrefix(alg, "HS") {
		key = PrivateKey(alg)
	}
	return SignWith(t, alg, key, claims, header...)
}

// SignWith is Sign with another key.
func SignWith(t testing.TB, alg string, key any, claims Claims, header ...map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	for _, h := range header {
		maps.Copy(token.Header, h)
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Soon returns an expiry that no test reaches.
func Soon() int64 { return time.Now().Add(time.Hour).Unix() }

// Alice returns the claims of a token that is accepted, with changes; nil
// removes one.
func Alice(changes Claims) Claims {
	c := Claims{"sub": "alice", "exp": Soon()}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// Bearer returns a function that gives a request a token of Alice with changes,
// signed with Secret.
func Bearer(t testing.TB, changes Claims) func(*http.Request) {
	t.Helper()
	token := Sign(t, "HS256", Alice(changes))
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}
