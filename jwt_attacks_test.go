package evstream

import (
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	gojwt "github.com/golang-jwt/jwt/v5"
)

// The attacks with a name that are about tokens; those about keys that are
// fetched are in jwks_test.go, about answers in application_test.go, about
// tickets in tickets_test.go.

// CVE-2015-9235 and its kin, "alg: none". What defends is that a token's
// algorithm must be one that is allowed, before anything else is looked at:
// with "none" among them it would be up to verifyKey.fits and to go-jose.
func TestATokenThatIsNotSignedIsRefused(t *testing.T) {
	unsigned := signWith(t, "none", gojwt.UnsafeAllowNoneSignatureType, aliceClaims(nil))
	for _, token := range []string{unsigned, strings.TrimSuffix(unsigned, "."), unsigned + "e30"} {
		for _, key := range []string{jwtSecret, publicPEM(t, "RS256")} {
			a := accessOf(t, withKeys(key))
			_, err := a.identify(requestWith(token))
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
	h := withKeys(jwtSecret)
	h.JWT.Algorithms = names
	_, err := openAccess(t, h)
	return err
}

// Algorithm confusion: a token that is signed with HS256, and with the text of
// the public key for a secret. What defends is that a key carries the
// algorithms of its type (verifyKey.fits): if any key were tried with any
// algorithm as bytes, this token would be good.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		text := publicPEM(t, alg)
		block, _ := pem.Decode([]byte(text))
		for _, secret := range [][]byte{[]byte(text), []byte(strings.TrimSpace(text)), block.Bytes} {
			token := signWith(t, "HS256", secret, aliceClaims(nil))
			_, err := accessOf(t, withKeys(text)).identify(requestWith(token))
			refusedWith(t, err, http.StatusUnauthorized)
			// Also where secrets are accepted beside it.
			_, err = accessOf(t, withKeys(text, jwtSecret)).identify(requestWith(token))
			refusedWith(t, err, http.StatusUnauthorized)
		}
		// And a public key in another form is not taken for a secret: what
		// defends is looksPublic.
		if alg == "EdDSA" {
			block.Bytes[len(block.Bytes)-1] = '\n' // which is lost when it is read from a file
		}
		der := filepath.Join(t.TempDir(), "key.der")
		if err := os.WriteFile(der, block.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, bare := range []string{base64.StdEncoding.EncodeToString(block.Bytes), "{file." + der + "}"} {
			if _, err := openAccess(t, withKeys(bare)); err == nil || !strings.Contains(err.Error(), "looks like a public key") {
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
	h := withKeys(jwtSecret)
	h.JWT.Keys[0].ID = "2026"
	a := accessOf(t, h)
	for _, id := range []any{"../../../../dev/null", "/proc/self/environ", "' OR '1'='1", "http://127.0.0.1:1/keys", "2026/../2026", "2026\x00", " 2026"} {
		for _, key := range [][]byte{[]byte(jwtSecret), {}} {
			_, err := a.identify(requestWith(signWith(t, "HS256", key, aliceClaims(nil), map[string]any{"kid": id})))
			refusedWith(t, err, http.StatusUnauthorized)
		}
	}
	for _, header := range []map[string]any{{"kid": "2026"}, nil} {
		if _, err := a.identify(requestWith(sign(t, "HS256", aliceClaims(nil), header))); err != nil {
			t.Errorf("%v: %v", header, err)
		}
	}
}

// The dots bomb, CVE-2025-30204: a token of nothing but dots, which a parser
// splits into a part for each. What defends is the bound before anything is
// parsed (maxToken); without it, and with strings.Split, it costs 16 MB.
func TestATokenOfDotsCostsNothing(t *testing.T) {
	h := withKeys(jwtSecret)
	h.Cookie, h.InsecureQueryToken = "session", "token"
	a := accessOf(t, h)
	for _, size := range []int{maxToken - 1, 1 << 20} {
		r := requestWith(strings.Repeat(".", size))
		perRun := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				if _, err := a.identify(r); err == nil {
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
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwkOf(t, "ES256", "evil")}})
	}))
	defer evil.Close()
	a := accessOf(t, &Handler{JWT: &JWTConfig{
		Keys: []JWTKey{{Key: publicPEM(t, "ES384")}},
		JWKS: serveKeys(t, map[string]any{"keys": []any{jwkOf(t, "ES512", "good")}}),
	}})
	for _, header := range []map[string]any{
		{"jwk": jwkOf(t, "ES256", "evil")},
		{"jku": evil.URL + "/jku", "kid": "evil"},
		{"x5u": evil.URL + "/x5u"},
		{"kid": evil.URL + "/kid"},
	} {
		token := sign(t, "ES256", aliceClaims(gojwt.MapClaims{"iss": evil.URL + "/iss"}), header)
		_, err := a.identify(requestWith(token))
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
		_, err := accessOf(t, withKeys(jwtSecret)).identify(requestWith(signRaw(claims)))
		refusedWith(t, err, http.StatusUnauthorized)
	}
}

// A token that was revoked by its digest, in another spelling: with the other
// signature that ECDSA has for the same bytes, or with bits and line breaks
// that base64 does not read. What defends is that the digest is of what is
// signed, and that there is one spelling of it (spelledOnce).
func TestARevokedTokenHasNoOtherSpelling(t *testing.T) {
	a := accessOf(t, withKeys(publicPEM(t, "ES256")))
	// A payload that is no multiple of three bytes leaves bits that are not read.
	token := sign(t, "ES256", gojwt.MapClaims{"sub": "alice", "exp": 4102444800})
	if payload := strings.Split(token, ".")[1]; len(payload)%4 == 0 {
		t.Fatalf("the payload %s leaves no bits", payload)
	}
	who, err := a.identify(requestWith(token))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.hub.revocations.add(revocation{Token: who.tokenID}, time.Now()); err != nil {
		t.Fatal(err)
	}
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
		_, err := a.identify(requestWith(spelling))
		refusedWith(t, err, http.StatusUnauthorized)
	}
}
