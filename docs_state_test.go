package evstream_test

import (
	"os/exec"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestTheStatePageIsTrue(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl: make setup installs it")
	}
	d := &document{site: freePort(t), admin: freePort(t), grown: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	all := fences(t, "docs/state.md")
	for _, f := range all {
		d.try(t, f)
		if t.Failed() {
			return // what follows builds on it
		}
	}
	d.shown(t, all[len(all)-1])
}
