package auth

import (
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// The attacks with a name that are about tokens; those about keys that are
// fetched are in jwks_test.go, about answers in verify_test.go, about
// tickets in tickets_test.go.

// CVE-2015-9235 and its kin, "alg: none". What defends is that a token's
// algorithm must be one that is allowed, before anything else is looked at:
// with "none" among them it would be up to verifyKey.fits and to go-jose.
func TestATokenThatIsNotSignedIsRefused(t *testing.T) {
	unsigned := authtest.SignWith(t, "none", jwt.UnsafeAllowNoneSignatureType, authtest.Alice(nil))
	for _, token := range []string{unsigned, strings.TrimSuffix(unsigned, "."), unsigned + "e30"} {
		for _, key := range []string{authtest.Secret, authtest.PublicPEM(t, "RS256")} {
			a := authOf(t, withKeys(key))
			_, err := a.Authenticate(requestWith(token))
			refusedWith(t, err, http.StatusUnauthorized)
			_, err = a.tokens.verify(t.Context(), token, time.Now(), false)
			if _, early := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); !early && token == unsigned {
				t.Errorf("it came as far as %v", err)
			}
		}
	}
	if err := newBadAlgorithms(t, "none"); err == nil {
		t.Error("none can be configured")
	}
}

func newBadAlgorithms(t *testing.T, names ...string) error {
	h := withKeys(authtest.Secret)
	h.JWT.Algorithms = names
	_, err := openAuth(t, h)
	return err
}

// Algorithm confusion: a token that is signed with HS256, and with the text of
// the public key for a secret. What defends is that a key carries the
// algorithms of its type (verifyKey.fits): if any key were tried with any
// algorithm as bytes, this token would be good.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		text := authtest.PublicPEM(t, alg)
		block, _ := pem.Decode([]byte(text))
		for _, secret := range [][]byte{[]byte(text), []byte(strings.TrimSpace(text)), block.Bytes} {
			token := authtest.SignWith(t, "HS256", secret, authtest.Alice(nil))
			_, err := authOf(t, withKeys(text)).Authenticate(requestWith(token))
			refusedWith(t, err, http.StatusUnauthorized)
			// Also where secrets are accepted beside it.
			_, err = authOf(t, withKeys(text, authtest.Secret)).Authenticate(requestWith(token))
			refusedWith(t, err, http.StatusUnauthorized)
		}
		// And a public key in another form is not taken for a secret: what
		// defends is looksPublic.
		if alg == "EdDSA" {
			block.Bytes[len(block.Bytes)-1] = '\n' // which is lost when it is read from a file
		}
		for _, bare := range []string{base64.StdEncoding.EncodeToString(block.Bytes), strings.TrimSuffix(string(block.Bytes), "\n")} {
			if _, err := openAuth(t, withKeys(bare)); err == nil || !strings.Contains(err.Error(), "looks like a public key") {
				t.Errorf("%s: a public key is a secret: %v", alg, err)
			}
		}
	}
}

// kid traversal: a key id that is a path, a query or a URL. What defends is
// that an id is only ever compared with those that are configured
// (verifyKey.fits): it opens no file and asks nobody. A key whose file an
// attacker knows, such as an empty one, verifies nothing.
func TestAKeyIDIsOnlyCompared(t *testing.T) {
	h := withKeys(authtest.Secret)
	h.JWT.Keys[0].ID = "2026"
	a := authOf(t, h)
	for _, id := range []any{"../../../../dev/null", "/proc/self/environ", "' OR '1'='1", "http://127.0.0.1:1/keys", "2026/../2026", "2026\x00", " 2026"} {
		for _, key := range [][]byte{[]byte(authtest.Secret), {}} {
			_, err := a.Authenticate(requestWith(authtest.SignWith(t, "HS256", key, authtest.Alice(nil), map[string]any{"kid": id})))
			refusedWith(t, err, http.StatusUnauthorized)
		}
	}
	for _, header := range []map[string]any{{"kid": "2026"}, nil} {
		if _, err := a.Authenticate(requestWith(authtest.Sign(t, "HS256", authtest.Alice(nil), header))); err != nil {
			t.Errorf("%v: %v", header, err)
		}
	}
}

// The dots bomb, CVE-2025-30204: a token of nothing but dots, which a parser
// splits into a part for each. What defends is the bound before anything is
// parsed (maxToken); without it, and with strings.Split, it costs 16 MB.
func TestATokenOfDotsCostsNothing(t *testing.T) {
	h := withKeys(authtest.Secret)
	h.Cookie, h.QueryParameter = "session", "token"
	a := authOf(t, h)
	for _, size := range []int{maxToken - 1, 1 << 20} {
		r := requestWith(strings.Repeat(".", size))
		perRun := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Authenticate(r); err == nil {
					b.Fatal("accepted")
				}
			}
		}).AllocedBytesPerOp()
		if perRun > 64<<10 {
			t.Errorf("%d dots cost %d bytes", size, perRun)
		}
	}
}

// A key, or where to get it, within the token itself: jwk, jku, x5u, x5c. What
// defends is that tokens.open takes keys from the configuration only. The
// address would be asked if the header were believed.
func TestATokenBringsNoKeyOfItsOwn(t *testing.T) {
	asked := make(chan string, 10)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{authtest.JWK("ES256", "evil")}})
	}))
	defer evil.Close()
	a := authOf(t, &Config{JWT: &JWT{
		Keys: []Key{{Text: authtest.PublicPEM(t, "ES384")}},
		JWKS: authtest.Serve(t, map[string]any{"keys": []any{authtest.JWK("ES512", "good")}}),
	}})
	for _, header := range []map[string]any{
		{"jwk": authtest.JWK("ES256", "evil")},
		{"jku": evil.URL + "/jku", "kid": "evil"},
		{"x5u": evil.URL + "/x5u"},
		{"kid": evil.URL + "/kid"},
	} {
		token := authtest.Sign(t, "ES256", authtest.Alice(authtest.Claims{"iss": evil.URL + "/iss"}), header)
		_, err := a.Authenticate(requestWith(token))
		refusedWith(t, err, http.StatusUnauthorized)
	}
	select {
	case path := <-asked:
		t.Errorf("%s was asked", path)
	default:
	}
}

// A name that is in an object twice is read by some as the first and by some
// as the last. What defends is go-jose's decoder, which readClaims uses first.
func TestClaimsWithANameTwiceAreRefused(t *testing.T) {
	for _, claims := range []string{
		`{"sub":"bob","sub":"alice","exp":4102444800}`,
		`{"sub":"alice","exp":1,"exp":4102444800}`,
		`{"sub":"alice","exp":4102444800,"evstream":{"subscribe":["a"],"subscribe":["**"]}}`,
		"{\"sub\":\"al\xffce\",\"exp\":4102444800}",
		`[]`, `null`, `"x"`, ``,
	} {
		_, err := authOf(t, withKeys(authtest.Secret)).Authenticate(requestWith(signRaw(claims)))
		refusedWith(t, err, http.StatusUnauthorized)
	}
}

// revokedTokens are Revocations by the id of a token.
type revokedTokens map[string]bool

func (r revokedTokens) MayEnter(who *access.Caller, _ time.Time) error {
	if r[who.TokenID] {
		return access.ErrRevoked
	}
	return nil
}

// A token that was revoked by its digest, in another spelling: with the other
// signature that ECDSA has for the same bytes, or with bits and line breaks
// that base64 does not read. What defends is that the digest is of what is
// signed, and that there is one spelling of it (spelledOnce).
func TestARevokedTokenHasNoOtherSpelling(t *testing.T) {
	revoked := make(revokedTokens)
	a := authOf(t, withKeys(authtest.PublicPEM(t, "ES256")), func(d *Deps) { d.Revocations = revoked })
	// A payload that is no multiple of three bytes leaves bits that are not read.
	token := authtest.Sign(t, "ES256", authtest.Claims{"sub": "alice", "exp": 4102444800})
	if payload := strings.Split(token, ".")[1]; len(payload)%4 == 0 {
		t.Fatalf("the payload %s leaves no bits", payload)
	}
	who, err := a.Authenticate(requestWith(token))
	if err != nil {
		t.Fatal(err)
	}
	revoked[who.TokenID] = true
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	twin := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(signature[32:]))
	twin.FillBytes(signature[32:])
	spellings := []string{token, token[:dot+1] + base64.RawURLEncoding.EncodeToString(signature), token[:dot-3] + "\n" + token[dot-3:], token + "\r\n"}
	for _, last := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		spellings = append(spellings, token[:dot-1]+string(last)+token[dot:], token[:len(token)-1]+string(last))
	}
	for _, spelling := range spellings {
		_, err := a.Authenticate(requestWith(spelling))
		refusedWith(t, err, http.StatusUnauthorized)
	}
}
