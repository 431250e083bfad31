package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

func TestTokensOfGolangJWTAreAccepted(t *testing.T) {
	for _, alg := range algorithmNames {
		t.Run(string(alg), func(t *testing.T) {
			key := authtest.Secret
			if !symmetric(alg) {
				key = authtest.PublicPEM(t, string(alg))
			}
			a := authOf(t, withKeys(key))
			exp := authtest.Soon()
			who, err := a.Authenticate(requestWith(authtest.Sign(t, string(alg), authtest.Claims{
				"sub": "alice", "exp": exp, "jti": "17", "iat": exp - 7200,
				"evstream": map[string]any{"subscribe": []string{"orders/17/**"}, "state": []string{"carts/alice"}},
				"level":    9007199254740993, "roles": []string{"a", "b"},
			})))
			if err != nil {
				t.Fatal(err)
			}
			if who.User != "alice" || who.TokenID != "17" || who.Expires.Unix() != exp || who.Issued.Unix() != exp-7205 || who.Ambient {
				t.Errorf("got %+v", who)
			}
			wantGrants(t, who, map[string]string{"subscribe": "orders/17/**", "state": "carts/alice"})
			if who.Claims["level"] != json.Number("9007199254740993") {
				t.Errorf("a number became %v", who.Claims["level"])
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
	jwks := authtest.Serve(t, map[string]any{"keys": set})
	published := authOf(t, &Config{JWT: &JWT{JWKS: jwks}})
	for i, m := range made {
		t.Run(m.Alg, func(t *testing.T) {
			h := withKeys(m.Key)
			h.JWT.Keys[0].ID = "jose-" + m.Alg
			h.JWT.Issuer, h.JWT.Audience = "https://app.example.com", []string{"live"}
			accepting := []*Authenticator{authOf(t, h)}
			if m.JWK != nil {
				accepting = append(accepting, published, authOf(t, withKeys(string(m.JWK))))
			}
			for _, a := range accepting {
				who, err := a.Authenticate(requestWith(m.Token))
				if err != nil {
					t.Fatal(err)
				}
				if who.User != "alice" || who.TokenID != "id-"+m.Alg {
					t.Errorf("got %+v", who)
				}
				wantGrants(t, who, map[string]string{"subscribe": "orders/17/**"})
			}
			other := made[(i+1)%len(made)]
			_, err := authOf(t, withKeys(other.Key)).Authenticate(requestWith(m.Token))
			refusedWith(t, err, http.StatusUnauthorized)
		})
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	alice := authtest.Alice
	for _, tt := range []struct {
		name   string
		claims authtest.Claims
	}{
		{"no exp", alice(authtest.Claims{"exp": nil})},
		{"expired", alice(authtest.Claims{"exp": in(-time.Second)})},
		{"expired long ago", alice(authtest.Claims{"exp": 0})},
		{"an exp that is no number", alice(authtest.Claims{"exp": "tomorrow"})},
		{"an exp beyond all time", alice(authtest.Claims{"exp": 1e300})},
		{"not yet", alice(authtest.Claims{"nbf": in(time.Minute)})},
		{"not yet, beyond all time", alice(authtest.Claims{"nbf": 1e19})},
		{"issued in the future", alice(authtest.Claims{"iat": in(time.Minute)})},
		{"another issuer", alice(authtest.Claims{"iss": "https://other.example.com"})},
		{"no issuer", alice(authtest.Claims{"iss": nil})},
		{"another audience", alice(authtest.Claims{"aud": "other"})},
		{"no audience", alice(authtest.Claims{"aud": nil})},
		{"a user that is no string", alice(authtest.Claims{"sub": 7})},
		{"grants that are no object", alice(authtest.Claims{"evstream": []string{"**"}})},
		{"grants of an unknown verb", alice(authtest.Claims{"evstream": map[string]any{"read": []string{"**"}}})},
		{"grants of all", alice(authtest.Claims{"evstream": map[string]any{"all": []string{"**"}}})},
		{"grants that are no list", alice(authtest.Claims{"evstream": map[string]any{"subscribe": "**"}})},
		{"a grant that is no string", alice(authtest.Claims{"evstream": map[string]any{"subscribe": []any{7}}})},
		{"a grant that is no pattern", alice(authtest.Claims{"evstream": map[string]any{"subscribe": []string{"a**"}}})},
		{"too large", alice(authtest.Claims{"x": strings.Repeat("x", maxToken)})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := withKeys(authtest.Secret)
			for name, value := range map[string]any{"iss": "https://app.example.com", "aud": "live"} {
				if _, given := tt.claims[name]; !given && !strings.HasPrefix(tt.name, "no ") {
					tt.claims[name] = value
				}
			}
			h.JWT.Issuer, h.JWT.Audience = "https://app.example.com", []string{"x", "live"}
			_, err := authOf(t, h).Authenticate(requestWith(authtest.Sign(t, "HS256", tt.claims)))
			refusedWith(t, err, http.StatusUnauthorized)
		})
	}
}

func TestTheLeewayIsForExpiredTokens(t *testing.T) {
	h := withKeys(authtest.Secret)
	h.JWT.Leeway = 60e9
	a := authOf(t, h)
	exp := time.Now().Add(-30 * time.Second).Unix()
	who, err := a.Authenticate(requestWith(authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp}))))
	if err != nil || who.Expires.Unix() != exp+60 {
		t.Errorf("got %v, %v", who.Expires, err)
	}
	_, err = a.Authenticate(requestWith(authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp - 31}))))
	refusedWith(t, err, http.StatusUnauthorized)
}

func TestATokenWithoutExpiryIsAcceptedWhereThatIsWritten(t *testing.T) {
	h := withKeys(authtest.Secret)
	h.JWT.NoExpiry = true
	h.JWT.UserClaim = "name"
	token := authtest.Sign(t, "HS256", authtest.Claims{"name": "bob"})
	who, err := authOf(t, h).Authenticate(requestWith(token))
	if err != nil || who.User != "bob" || !who.Expires.IsZero() || !strings.HasPrefix(who.TokenID, "sha256:") {
		t.Errorf("got %+v, %v", who, err)
	}
}

// signRaw signs with HS256 and authtest.Secret whatever the claims are.
func signRaw(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"alg":"HS256"}`)) + "." + part([]byte(claims))
	mac := hmac.New(sha256.New, []byte(authtest.Secret))
	mac.Write([]byte(signed))
	return signed + "." + part(mac.Sum(nil))
}

func TestKeysAreTriedByIDAndOverlap(t *testing.T) {
	h := &Config{JWT: &JWT{Keys: []Key{
		{Text: authtest.PublicPEM(t, "RS256"), ID: "old"},
		{Text: authtest.PublicPEM(t, "ES256"), ID: "new"},
		{Text: authtest.Secret},
	}}}
	a := authOf(t, h)
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
		if _, err := a.Authenticate(requestWith(authtest.Sign(t, tt.alg, authtest.Alice(nil), header))); (err == nil) != tt.good {
			t.Errorf("%s by key %q: %v", tt.alg, tt.kid, err)
		}
	}
}

func TestJWTSettingsThatAreRefused(t *testing.T) {
	private, err := x509.MarshalPKCS8PrivateKey(authtest.PrivateKey("ES256"))
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
	key := func(text string) JWT { return JWT{Keys: []Key{{Text: text}}} }
	for _, tt := range []struct {
		name   string
		config JWT
		want   string
	}{
		{"no key", JWT{}, "there is no key: give key or jwks"},
		{"a short secret", key("0123456789012345678901234567890"), "the secret has 31 bytes, at least 32 are needed"},
		{"an empty key", key(""), "key 1: it is empty"},
		{"a secret with an end of line", key(authtest.Secret + "\n"), "white space"},
		{"a private key", key(block("PRIVATE KEY", private)), "give the public key"},
		{"a private JSON Web Key", key(`{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`), "give the public key"},
		{"a set of keys", key(`{"keys":[]}`), "a set of them is read with jwks"},
		{"an SSH key", key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmB somebody@somewhere"), "looks like a public key"},
		{"a small RSA key", key(block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&small.PublicKey))), "1024 bits, 2048 to 8192"},
		{"two blocks", key(authtest.PublicPEM(t, "ES256") + authtest.PublicPEM(t, "ES384")), "more than one PEM block"},
		{"a block of something else", key(block("NONSENSE", []byte("x"))), `type "NONSENSE" has no key`},
		{"a block that is broken", key(block("PUBLIC KEY", []byte("x"))), `reading a PEM block`},
		{"too many keys", JWT{Keys: make([]Key, 17)}, "17 keys, at most 16"},
		{"an algorithm", JWT{Keys: []Key{{Text: authtest.Secret}}, Algorithms: []string{"HS1"}}, `algorithms: "HS1" is not an algorithm; there is: HS256 `},
		{"an algorithm twice", JWT{Keys: []Key{{Text: authtest.Secret}}, Algorithms: []string{"HS256", "HS256"}}, "given twice"},
		{"an algorithm of another type", JWT{Keys: []Key{{Text: authtest.Secret}}, Algorithms: []string{"RS256"}}, "of which algorithms has none"},
		{"an algorithm without a key", JWT{Keys: []Key{{Text: authtest.Secret}}, Algorithms: []string{"HS256", "RS256"}}, "no key is for the algorithm RS256"},
		{"HS of a JWKS", JWT{JWKS: "https://example.com/jwks", Algorithms: []string{"HS256"}}, "no key is for the algorithm HS256"},
		{"a long leeway", JWT{Keys: []Key{{Text: authtest.Secret}}, Leeway: 1e15}, "leeway must be at most 10m"},
		{"an empty audience", JWT{Keys: []Key{{Text: authtest.Secret}}, Audience: []string{""}}, "an audience is empty"},
		{"private without a JWKS", JWT{Keys: []Key{{Text: authtest.Secret}}, AllowPrivate: true}, "allow_private is about jwks"},
		{"http", JWT{JWKS: "http://example.com/jwks"}, "must begin with https://"},
		{"no URL", JWT{JWKS: "example.com/jwks"}, "is not a URL"},
		{"another scheme", JWT{JWKS: "file://host/etc/passwd"}, "must begin with https://"},
		{"a password", JWT{JWKS: "https://a:b@example.com/"}, "must not have a user or a password"},
		{"a private address", JWT{JWKS: "https://10.0.0.5/jwks"}, "allow_private"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openAuth(t, &Config{JWT: &tt.config})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), authtest.Secret) {
				t.Errorf("%v tells a secret", err)
			}
		})
	}
}

// FuzzToken compares what is accepted with what a few lines of the standard
// library accept: a token is good only if this secret has signed exactly it.
func FuzzToken(f *testing.F) {
	h := withKeys(authtest.Secret, authtest.PublicPEM(f, "ES256"), authtest.PublicPEM(f, "RS256"))
	h.JWT.Algorithms = []string{"HS256", "ES256", "RS256"}
	t, err := h.JWT.settings()
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range h.JWT.Keys {
		if err := t.addKey(k); err != nil {
			f.Fatal(err)
		}
	}
	exp := authtest.Claims{"sub": "alice", "exp": 4102444800, "evstream": map[string]any{"subscribe": []string{"a/**"}}}
	known := map[string]bool{}
	for _, alg := range []string{"HS256", "ES256", "RS256"} {
		token := authtest.Sign(f, alg, exp, map[string]any{"kid": "x"})
		known[token] = true
		f.Add(token)
	}
	f.Add(signRaw(`{"sub":"bob","exp":4102444800,"nbf":1.5,"aud":["x"]}`))
	f.Add(authtest.SignWith(f, "none", jwt.UnsafeAllowNoneSignatureType, exp))
	f.Add("..")
	f.Add("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.e30.AA")
	f.Fuzz(func(tt *testing.T, token string) {
		who, err := t.verify(tt.Context(), token, time.Unix(1763700000, 0), false)
		if err != nil {
			if !errors.Is(err, errToken) && !errors.Is(err, access.ErrExpired) {
				tt.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if who.Expires.IsZero() || who.TokenID == "" || who.Method != access.ByToken {
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
	mac := hmac.New(sha256.New, []byte(authtest.Secret))
	mac.Write([]byte(token[:i]))
	got, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	return err == nil && hmac.Equal(got, mac.Sum(nil))
}
