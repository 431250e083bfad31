package evstream_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"
)

// jwtKey is the secret of the documents' tokens.
const jwtKey = "a secret of at least 32 bytes, for tests"

// As README.md is. $TOKEN is a token of the user alice.
func TestTokensPageIsTrue(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl")
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}).SignedString([]byte(jwtKey))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("EVSTREAM_JWT_KEY", jwtKey)
	t.Setenv("TOKEN", signed)
	d := &document{site: freePort(t), admin: freePort(t), grown: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	all := fences(t, "docs/tokens.md")
	for _, f := range all {
		d.try(t, f)
		if t.Failed() {
			return // what follows builds on it
		}
	}
	d.shown(t, all[len(all)-1])
}
