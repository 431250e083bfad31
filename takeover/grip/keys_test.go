package grip

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The key and the tokens of golang-jwt's tests of ES256.
const (
	ecKey = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIAh5qA3rmqQQuu0vbKV/+zouz/y/Iy2pLpIcWUSyImSwoAoGCCqGSM49
AwEHoUQDQgAEYD54V/vp+54P9DXarYqx4MPcm+HKRIQzNasYSoRQHQ/6S6Ps8tpM
cT+KvIIC8W/e9k0W7Cm72M1P9jU7SLf/vg==
-----END EC PRIVATE KEY-----`
	ecKeyPKCS8 = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgCHmoDeuapBC67S9s
pX/7Oi7P/L8jLakukhxZRLIiZLChRANCAARgPnhX++n7ng/0NdqtirHgw9yb4cpE
hDM1qxhKhFAdD/pLo+zy2kxxP4q8ggLxb972TRbsKbvYzU/2NTtIt/++
-----END PRIVATE KEY-----`
	ecToken        = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJmb28iOiJiYXIifQ.feG39E-bn8HXAKhzDZq7yEAPWYDhZlwTn3sePJnU9VrGMmwdXAIEyoOnrjreYlVM_Z4N13eK9-TmMTWyfKJtHQ"
	ecTokenInvalid = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJmb28iOiJiYXIifQ.MEQCIHoSJnmGlPaVQDqacx_2XlXEhhqtWceVopjomc2PJLtdAiAUTeGPoNYxZw0z8mgOnnIcjoxRuNDVZvybRZF3wR1l8W"
)

func mustKeys(t *testing.T, publish, sign string) *Keys {
	t.Helper()
	k, err := NewKeys(publish, sign, "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// mayPublish reports whether a request with that header may publish.
func mayPublish(k *Keys, authorization string, now time.Time) error {
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Authorization", authorization)
	return k.MayPublish(r, now)
}

// A private key signs as other libraries verify, however it is written, and verifies what
// they have signed.
func TestAPrivateKeySignsWithES256(t *testing.T) {
	block, _ := pem.Decode([]byte(ecKeyPKCS8))
	sec1, _ := pem.Decode([]byte(ecKey))
	b64 := base64.StdEncoding.EncodeToString
	for name, text := range map[string]string{
		"PEM": ecKey, "PKCS #8": ecKeyPKCS8, "PEM and lines after it": ecKey + "\n\n",
		"openssl ecparam": "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + ecKey,
		"base64 of PEM":   "base64:" + b64([]byte(ecKey)), "base64 of DER": "base64:" + b64(block.Bytes), "base64 of SEC 1": "base64:" + b64(sec1.Bytes),
	} {
		k := mustKeys(t, text, "")
		now := time.Now()
		token, err := jwt.Parse(k.Sign(now), func(*jwt.Token) (any, error) { return &k.signs.ec.PublicKey, nil }, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer("evstream"), jwt.WithExpirationRequired())
		if err != nil || !token.Valid {
			t.Errorf("%s: golang-jwt: %v", name, err)
			continue
		}
		if _, err := k.publish.open(ecToken); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// js-grip 4.3.0: Auth.Jwt({iss: 'evstream'}, new PemKey(…), 'ES256').
		const signed = "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJldnN0cmVhbSIsImV4cCI6MTc5NTk0NDI3MX0.kgiOHUfm_hxjIlPyUEikXhtPTN2OUstW2F-EIgNoE9ooiOILMn5hU5RDBa7vkVdO2RrAtLcnWuy5SgMsyxEwRA"
		if err := mayPublish(k, signed, time.Unix(1795944271, 0).Add(-10*time.Minute)); err != nil {
			t.Errorf("%s: js-grip: %v", name, err)
		}
		if err := mayPublish(k, "Bearer "+tokenOf(k, now), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// With a private key nothing publishes but tokens of that key and algorithm: its public
// half is known to applications, and is no secret.
func TestForgedTokensOfES256DoNotPublish(t *testing.T) {
	k := mustKeys(t, ecKey, "")
	now := time.Now()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&k.signs.ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	claims := jwt.MapClaims{"iss": "evstream", "exp": now.Add(time.Minute).Unix()}
	by := func(method jwt.SigningMethod, with any) string {
		s, err := jwt.NewWithClaims(method, claims).SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	good := tokenOf(k, now)
	head := good[:strings.LastIndex(good, ".")+1]
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+password))
	}
	for name, authorization := range map[string]string{
		"a Grip-Sig":                       "Bearer " + k.Sign(now),
		"another key":                      by(jwt.SigningMethodES256, other),
		"the public key as a secret":       by(jwt.SigningMethodHS256, publicPEM),
		"its DER as a secret":              by(jwt.SigningMethodHS256, public),
		"nothing as a secret":              by(jwt.SigningMethodHS256, []byte{}),
		"none":                             by(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"the private key itself":           "Bearer " + ecKey,
		"nothing":                          "Bearer ",
		"no password":                      basic(""),
		"the private key as a password":    basic(ecKey),
		"a signature of zeros":             "Bearer " + head + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"no signature":                     "Bearer " + head,
		"a signature that is too long":     "Bearer " + good + "AAAA",
		"a signature in ASN.1":             "Bearer " + ecTokenInvalid,
		"golang-jwt's, which has no claim": "Bearer " + ecToken,
	} {
		if mayPublish(k, authorization, now) == nil {
			t.Errorf("%s may publish", name)
		}
	}
	if _, err := k.publish.open(ecTokenInvalid); err == nil {
		t.Error("a signature in ASN.1 is taken")
	}
}

// What signs the requests need not be what publishes.
func TestASignKeySignsAndDoesNotPublish(t *testing.T) {
	k := mustKeys(t, testKey, ecKey)
	now := time.Now()
	if signer := mustKeys(t, ecKey, ""); mayPublish(k, "Bearer "+tokenOf(signer, now), now) == nil {
		t.Error("what sign_key has signed publishes")
	}
	if err := mayPublish(k, "Bearer "+testKey, now); err != nil {
		t.Error(err)
	}
	if open := mustKeys(t, "", ecKey); mayPublish(open, "", now) != nil || !strings.HasPrefix(open.Sign(now), base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`))) {
		t.Error("without a key, who reaches the endpoint may publish, and sign_key signs still")
	}
}

// Keys that cannot sign, or not safely, are named.
func TestKeysThatAreRefused(t *testing.T) {
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384DER, _ := x509.MarshalECPrivateKey(p384)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 1024)
	rsaDER, _ := x509.MarshalPKCS8PrivateKey(rsaKey)
	publicDER, _ := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	inPEM := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for text, want := range map[string]string{
		"short":                                                  "at least 8 are needed",
		"base64:####":                                            "not standard base64",
		inPEM("EC PRIVATE KEY", p384DER):                         "the curve P-384: P-256 is allowed",
		inPEM("PRIVATE KEY", rsaDER):                             "not one of an elliptic curve",
		inPEM("RSA PRIVATE KEY", rsaDER):                         `type "RSA PRIVATE KEY"; "PRIVATE KEY" and "EC PRIVATE KEY" are allowed`,
		inPEM("ENCRYPTED PRIVATE KEY", rsaDER):                   `type "ENCRYPTED PRIVATE KEY"`,
		inPEM("PUBLIC KEY", publicDER):                           "a public key, which signs nothing",
		"base64:" + base64.StdEncoding.EncodeToString(publicDER): "a public key, which signs nothing",
		inPEM("PRIVATE KEY", []byte("x")):                        "cannot be read",
		"-----BEGIN PRIVATE KEY----- MIGH -----END":              "begins like PEM and cannot be read",
		ecKey + "\n" + ecKey:                                     "more than one PEM block",
		`{"kty":"EC","crv":"P-256"}`:                             "a JSON Web Key",
	} {
		if _, err := NewKeys(text, "", ""); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "MIGH") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}
