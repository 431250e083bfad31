package evstream_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"
)

// As README.md is: the recipes run, one after the other. $TOKEN is a token of
// the user alice.
func TestAccessPageIsTrue(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl")
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "alice", "org": "acme", "roles": []string{"editor"}, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(jwtKey))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("EVSTREAM_TOKEN", token)
	t.Setenv("EVSTREAM_JWT_KEY", jwtKey)
	t.Setenv("TOKEN", signed)
	d := &document{site: freePort(t), admin: freePort(t), grown: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	all := fences(t, "docs/access.md")
	for _, f := range all {
		d.try(t, f)
		if t.Failed() {
			return // what follows builds on it
		}
	}
	d.shown(t, all[len(all)-1])
}
