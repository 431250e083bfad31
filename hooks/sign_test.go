package hooks

import (
	"strings"
	"testing"
	"time"
)

// The vector that the authors of Standard Webhooks publish with their libraries.
func TestSignatureIsThatOfTheStandard(t *testing.T) {
	secret, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	sign := func(secrets ...[]byte) string {
		return signature(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	}
	if got := sign(secret); got != want {
		t.Errorf("got %s", got)
	}
	first, second, two := strings.Cut(sign(other, secret), " ")
	if !two || second != want || !strings.HasPrefix(first, "v1,") || first == want {
		t.Errorf("with two secrets: %s and %s", first, second)
	}
}

func TestSecretIsRefusedAndNotQuoted(t *testing.T) {
	for _, tt := range []struct{ name, secret, why string }{
		{"empty", "", "begins with"},
		{"no prefix", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with"},
		{"not base64", "whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw", "not base64"},
		{"23 bytes", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", "this one has 23"},
		{"66 bytes", "whsec_" + strings.Repeat("AAAA", 22), "this one has 66"},
	} {
		_, err := ParseSecret(tt.secret)
		if err == nil || !strings.Contains(err.Error(), tt.why) || tt.secret != "" && strings.Contains(err.Error(), tt.secret) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
