package evstream

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/broker"
)

// jwtSecret verifies and signs the tokens of most tests.
const jwtSecret = "a secret of tests that has no less than 64 bytes, as HS512 needs."

// testKeys are key pairs of each type, made once.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
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

// publicPEM is the public key of an algorithm as an operator would have it.
func publicPEM(t testing.TB, alg string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(testKeys()[alg].Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign makes a token with golang-jwt, which is not what verifies it. The key is
// jwtSecret for HS.
func sign(t testing.TB, alg string, claims gojwt.MapClaims, header ...map[string]any) string {
	t.Helper()
	var key any = []byte(jwtSecret)
	if !strings.HasPrefix(alg, "HS") {
		key = testKeys()[alg]
	}
	return signWith(t, alg, key, claims, header...)
}

func signWith(t testing.TB, alg string, key any, claims gojwt.MapClaims, header ...map[string]any) string {
	t.Helper()
	token := gojwt.NewWithClaims(gojwt.GetSigningMethod(alg), claims)
	for _, h := range header {
		maps.Copy(token.Header, h)
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// soon is an expiry that tests do not reach.
func soon() int64 { return time.Now().Add(time.Hour).Unix() }

// aliceClaims are those of a token that is accepted, with changes; nil removes.
func aliceClaims(changes gojwt.MapClaims) gojwt.MapClaims {
	c := gojwt.MapClaims{"sub": "alice", "exp": soon()}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// accessOf is the access of a handler, without a Caddy.
func accessOf(t testing.TB, h *Handler) *access {
	t.Helper()
	a, err := openAccess(t, h)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func openAccess(t testing.TB, h *Handler) (*access, error) {
	t.Helper()
	return openAccessOf(t, h, MemoryAdapter{})
}

// openAccessOf is openAccess with another log.
func openAccessOf(t testing.TB, h *Handler, adapter Adapter) (*access, error) {
	t.Helper()
	a, err := newAccess(rulesOf("anyone subscribe,publish **"), h.Bearers)
	if err != nil {
		return nil, err
	}
	hub, err := openHub(hubKey{name: "test"}, adapter, brokerSettings{broker: broker.DefaultConfig(), maxPerAddress: 200, maxPerUser: 200})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.close(), hub.Destruct()); err != nil {
			t.Error(err)
		}
	})
	return a, a.open(h, hub, slog.New(slog.DiscardHandler))
}

// withKeys is a handler that accepts tokens of some keys.
func withKeys(keys ...string) *Handler {
	h := &Handler{JWT: new(JWTConfig)}
	for _, key := range keys {
		h.JWT.Keys = append(h.JWT.Keys, JWTKey{Key: key})
	}
	return h
}

// requestWith is a request with a bearer.
func requestWith(secret string) *http.Request {
	r := httptest.NewRequest("GET", "/live/a", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	return r
}

// refusedWith fails the test unless err is an answer of that status.
func refusedWith(t testing.TB, err error, status int) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if got := problemOf(err).status(); got != status {
		t.Fatalf("got %d (%v), want %d", got, err, status)
	}
}

func TestTokensOfGolangJWTAreAccepted(t *testing.T) {
	for _, alg := range algorithmNames {
		t.Run(string(alg), func(t *testing.T) {
			key := jwtSecret
			if !symmetric(alg) {
				key = publicPEM(t, string(alg))
			}
			a := accessOf(t, withKeys(key))
			exp := soon()
			who, err := a.identify(requestWith(sign(t, string(alg), gojwt.MapClaims{
				"sub": "alice", "exp": exp, "jti": "17", "iat": exp - 7200,
				"evstream": map[string]any{"subscribe": []string{"orders/17/**"}, "state": []string{"carts/alice"}},
				"level":    9007199254740993, "roles": []string{"a", "b"},
			})))
			if err != nil {
				t.Fatal(err)
			}
			if who.user != "alice" || who.tokenID != "17" || who.expires.Unix() != exp || who.issued.Unix() != exp-7200 || who.ambient {
				t.Errorf("got %+v", who)
			}
			if p := who.grants.patterns; len(p) != 2 || p["subscribe"][0].String() != "orders/17/**" || p["state"][0].String() != "carts/alice" {
				t.Errorf("grants %v", p)
			}
			if who.claims["level"] != json.Number("9007199254740993") {
				t.Errorf("a number became %v", who.claims["level"])
			}
		})
	}
}

func TestTokensOfJoseAreAccepted(t *testing.T) {
	data, err := os.ReadFile("testdata/jose/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var made []struct {
		Alg, Key, Token string
		JWK             json.RawMessage
	}
	if err := json.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	if len(made) != len(algorithmNames) {
		t.Fatalf("there are tokens of %d algorithms, want %d", len(made), len(algorithmNames))
	}
	var set []json.RawMessage
	for _, m := range made {
		if m.JWK != nil {
			set = append(set, m.JWK)
		}
	}
	jwks := serveKeys(t, map[string]any{"keys": set})
	published := accessOf(t, &Handler{JWT: &JWTConfig{JWKS: jwks}})
	for i, m := range made {
		t.Run(m.Alg, func(t *testing.T) {
			h := withKeys(m.Key)
			h.JWT.Keys[0].ID = "jose-" + m.Alg
			h.JWT.Issuer, h.JWT.Audience = "https://app.example.com", []string{"live"}
			accepting := []*access{accessOf(t, h)}
			if m.JWK != nil {
				accepting = append(accepting, published, accessOf(t, withKeys(string(m.JWK))))
			}
			for _, a := range accepting {
				who, err := a.identify(requestWith(m.Token))
				if err != nil {
					t.Fatal(err)
				}
				if who.user != "alice" || who.tokenID != "id-"+m.Alg || who.grants.patterns["subscribe"][0].String() != "orders/17/**" {
					t.Errorf("got %+v", who)
				}
			}
			other := made[(i+1)%len(made)]
			_, err := accessOf(t, withKeys(other.Key)).identify(requestWith(m.Token))
			refusedWith(t, err, http.StatusUnauthorized)
		})
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	alice := aliceClaims
	for _, tt := range []struct {
		name   string
		claims gojwt.MapClaims
	}{
		{"no exp", alice(gojwt.MapClaims{"exp": nil})},
		{"expired", alice(gojwt.MapClaims{"exp": in(-time.Second)})},
		{"expired long ago", alice(gojwt.MapClaims{"exp": 0})},
		{"an exp that is no number", alice(gojwt.MapClaims{"exp": "tomorrow"})},
		{"an exp beyond all time", alice(gojwt.MapClaims{"exp": 1e300})},
		{"not yet", alice(gojwt.MapClaims{"nbf": in(time.Minute)})},
		{"not yet, beyond all time", alice(gojwt.MapClaims{"nbf": 1e19})},
		{"issued in the future", alice(gojwt.MapClaims{"iat": in(time.Minute)})},
		{"another issuer", alice(gojwt.MapClaims{"iss": "https://other.example.com"})},
		{"no issuer", alice(gojwt.MapClaims{"iss": nil})},
		{"another audience", alice(gojwt.MapClaims{"aud": "other"})},
		{"no audience", alice(gojwt.MapClaims{"aud": nil})},
		{"a user that is no string", alice(gojwt.MapClaims{"sub": 7})},
		{"grants that are no object", alice(gojwt.MapClaims{"evstream": []string{"**"}})},
		{"grants of an unknown verb", alice(gojwt.MapClaims{"evstream": map[string]any{"read": []string{"**"}}})},
		{"grants of all", alice(gojwt.MapClaims{"evstream": map[string]any{"all": []string{"**"}}})},
		{"grants that are no list", alice(gojwt.MapClaims{"evstream": map[string]any{"subscribe": "**"}})},
		{"a grant that is no string", alice(gojwt.MapClaims{"evstream": map[string]any{"subscribe": []any{7}}})},
		{"a grant that is no pattern", alice(gojwt.MapClaims{"evstream": map[string]any{"subscribe": []string{"a**"}}})},
		{"too large", alice(gojwt.MapClaims{"x": strings.Repeat("x", maxToken)})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := withKeys(jwtSecret)
			for name, value := range map[string]any{"iss": "https://app.example.com", "aud": "live"} {
				if _, given := tt.claims[name]; !given && !strings.HasPrefix(tt.name, "no ") {
					tt.claims[name] = value
				}
			}
			h.JWT.Issuer, h.JWT.Audience = "https://app.example.com", []string{"x", "live"}
			_, err := accessOf(t, h).identify(requestWith(sign(t, "HS256", tt.claims)))
			refusedWith(t, err, http.StatusUnauthorized)
		})
	}
}

func TestTheLeewayIsForExpiredTokens(t *testing.T) {
	h := withKeys(jwtSecret)
	h.JWT.Leeway = 60e9
	a := accessOf(t, h)
	exp := time.Now().Add(-30 * time.Second).Unix()
	who, err := a.identify(requestWith(sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": exp}))))
	if err != nil || who.expires.Unix() != exp+60 {
		t.Errorf("got %v, %v", who.expires, err)
	}
	_, err = a.identify(requestWith(sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": exp - 31}))))
	refusedWith(t, err, http.StatusUnauthorized)
}

func TestATokenWithoutExpiryIsAcceptedWhereThatIsWritten(t *testing.T) {
	h := withKeys(jwtSecret)
	h.JWT.InsecureNoExpiry = true
	h.JWT.UserClaim = "name"
	token := sign(t, "HS256", gojwt.MapClaims{"name": "bob"})
	who, err := accessOf(t, h).identify(requestWith(token))
	if err != nil || who.user != "bob" || !who.expires.IsZero() || !strings.HasPrefix(who.tokenID, "sha256:") {
		t.Errorf("got %+v, %v", who, err)
	}
}

// signRaw signs with HS256 and jwtSecret whatever the claims are.
func signRaw(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"alg":"HS256"}`)) + "." + part([]byte(claims))
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	mac.Write([]byte(signed))
	return signed + "." + part(mac.Sum(nil))
}

func TestKeysAreTriedByIDAndOverlap(t *testing.T) {
	h := &Handler{JWT: &JWTConfig{Keys: []JWTKey{
		{Key: publicPEM(t, "RS256"), ID: "old"},
		{Key: publicPEM(t, "ES256"), ID: "new"},
		{Key: jwtSecret},
	}}}
	a := accessOf(t, h)
	for _, tt := range []struct {
		alg, kid string
		good     bool
	}{
		{"RS256", "old", true},
		{"PS512", "old", true},
		{"ES256", "new", true},
		{"RS256", "", true},
		{"ES256", "", true},
		{"HS256", "", true},
		{"HS512", "anything", true}, // that key has no id
		{"RS256", "new", false},
		{"ES256", "old", false},
		{"ES384", "new", false},
	} {
		header := map[string]any{}
		if tt.kid != "" {
			header["kid"] = tt.kid
		}
		if _, err := a.identify(requestWith(sign(t, tt.alg, aliceClaims(nil), header))); (err == nil) != tt.good {
			t.Errorf("%s by key %q: %v", tt.alg, tt.kid, err)
		}
	}
}

func TestJWTSettingsThatAreRefused(t *testing.T) {
	private, err := x509.MarshalPKCS8PrivateKey(testKeys()["ES256"])
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	key := func(key string) JWTConfig { return JWTConfig{Keys: []JWTKey{{Key: key}}} }
	for _, tt := range []struct {
		name   string
		config JWTConfig
		want   string
	}{
		{"no key", JWTConfig{}, "there is no key: give key or jwks"},
		{"a short secret", key("0123456789012345678901234567890"), "the secret has 31 bytes, at least 32 are needed"},
		{"a secret that is unset", key("{env.EVSTREAM_TEST_UNSET}"), "key 1: "},
		{"a secret with an end of line", key(jwtSecret + "\n"), "white space"},
		{"a private key", key(block("PRIVATE KEY", private)), "give the public key"},
		{"a private JSON Web Key", key(`{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`), "give the public key"},
		{"a set of keys", key(`{"keys":[]}`), "a set of them is read with jwks"},
		{"an SSH key", key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmB somebody@somewhere"), "looks like a public key"},
		{"a small RSA key", key(block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&small.PublicKey))), "1024 bits, 2048 to 8192"},
		{"two blocks", key(publicPEM(t, "ES256") + publicPEM(t, "ES384")), "more than one PEM block"},
		{"a block of something else", key(block("NONSENSE", []byte("x"))), `type "NONSENSE" has no key`},
		{"a block that is broken", key(block("PUBLIC KEY", []byte("x"))), `reading a PEM block`},
		{"too many keys", JWTConfig{Keys: make([]JWTKey, 17)}, "17 keys, at most 16"},
		{"an algorithm", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Algorithms: []string{"HS1"}}, `"HS1" is not an algorithm, only [HS256 `},
		{"an algorithm twice", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Algorithms: []string{"HS256", "HS256"}}, "given twice"},
		{"an algorithm of another type", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Algorithms: []string{"RS256"}}, "of which algorithms has none"},
		{"an algorithm without a key", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Algorithms: []string{"HS256", "RS256"}}, "no key is for the algorithm RS256"},
		{"HS of a JWKS", JWTConfig{JWKS: "https://example.com/jwks", Algorithms: []string{"HS256"}}, "no key is for the algorithm HS256"},
		{"a long leeway", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Leeway: 1e15}, "leeway must be at most 10m"},
		{"an empty audience", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, Audience: []string{""}}, "an audience is empty"},
		{"private without a JWKS", JWTConfig{Keys: []JWTKey{{Key: jwtSecret}}, AllowPrivate: true}, "allow_private is about jwks"},
		{"http", JWTConfig{JWKS: "http://example.com/jwks"}, "must begin with https://"},
		{"no URL", JWTConfig{JWKS: "example.com/jwks"}, "is not a URL"},
		{"another scheme", JWTConfig{JWKS: "file://host/etc/passwd"}, "must begin with https://"},
		{"a password", JWTConfig{JWKS: "https://a:b@example.com/"}, "must not have a user or a password"},
		{"a private address", JWTConfig{JWKS: "https://10.0.0.5/jwks"}, "allow_private"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openAccess(t, &Handler{JWT: &tt.config})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), jwtSecret) {
				t.Errorf("%v tells a secret", err)
			}
		})
	}
}

// FuzzToken compares what is accepted with what a few lines of the standard
// library accept: a token is good only if this secret has signed exactly it.
func FuzzToken(f *testing.F) {
	h := withKeys(jwtSecret, publicPEM(f, "ES256"), publicPEM(f, "RS256"))
	h.JWT.Algorithms = []string{"HS256", "ES256", "RS256"}
	t, err := h.JWT.settings()
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range h.JWT.Keys {
		if err := t.addKey(k, newReplacer()); err != nil {
			f.Fatal(err)
		}
	}
	exp := gojwt.MapClaims{"sub": "alice", "exp": 4102444800, "evstream": map[string]any{"subscribe": []string{"a/**"}}}
	known := map[string]bool{}
	for _, alg := range []string{"HS256", "ES256", "RS256"} {
		token := sign(f, alg, exp, map[string]any{"kid": "x"})
		known[token] = true
		f.Add(token)
	}
	f.Add(signRaw(`{"sub":"bob","exp":4102444800,"nbf":1.5,"aud":["x"]}`))
	f.Add(signWith(f, "none", gojwt.UnsafeAllowNoneSignatureType, exp))
	f.Add("..")
	f.Add("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.e30.AA")
	f.Fuzz(func(tt *testing.T, token string) {
		who, err := t.verify(tt.Context(), token, time.Unix(1763700000, 0), false)
		if err != nil {
			if !errors.Is(err, errToken) && !errors.Is(err, errExpired) {
				tt.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if who.expires.IsZero() || who.tokenID == "" || who.method != byToken {
			tt.Fatalf("accepted as %+v", who)
		}
		if !known[token] && !signedByHand(token) {
			tt.Fatalf("accepted, and nobody signed it: %q", token)
		}
	})
}

// signedByHand verifies HS256 in the plainest way.
func signedByHand(token string) bool {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return false
	}
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	mac.Write([]byte(token[:i]))
	got, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	return err == nil && hmac.Equal(got, mac.Sum(nil))
}
