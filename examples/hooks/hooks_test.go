// Package hooks is the example of docs/hooks.md: an application that is told who is
// online. Its test runs it.
package hooks

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
)

// modulesEnv is the directory with node_modules that has express and standardwebhooks.
// `make clients` installs them and sets it.
const modulesEnv = "EVSTREAM_NODE_MODULES"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of this test alone

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "localhost:" + port
}

// The application is as it stands in the document, and the library that checks the
// signatures is that of Standard Webhooks.
func TestTheApplicationCountsWhoIsOnline(t *testing.T) {
	modules := os.Getenv(modulesEnv)
	if modules == "" {
		t.Skip("make clients runs it: it needs express and standardwebhooks from npm")
	}
	t.Setenv("EVSTREAM_HOOK_SECRET", secret)
	site, admin, app := free(t), free(t), free(t)
	text, err := os.ReadFile("app.mjs")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(modules, "hooks-app.mjs") // beside node_modules, where it finds them
	if err := os.WriteFile(program, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(program) })
	cmd := exec.Command("node", program)
	cmd.Env = append(os.Environ(), "PORT="+strings.TrimPrefix(app, "localhost:"), "EVSTREAM_ADMIN=http://"+admin)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	file, err := os.ReadFile("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer("localhost:3000", app, "localhost:8080", site, "{\n\tevstream {", "{\n\tadmin "+admin+"\n\tpersist_config off\n\tevstream {").Replace(string(file))
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(edited), nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the application to listen", func() bool {
		resp, err := http.Get("http://" + app + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	count := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d to be online", want), func() bool {
			r, err := http.NewRequest(http.MethodGet, "http://"+site+"/live/user-count", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept", "application/json")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			got := -1
			return json.NewDecoder(resp.Body).Decode(&got) == nil && resp.StatusCode == http.StatusOK && got == want
		})
	}
	open := func() *http.Response {
		resp, err := http.Get("http://" + site + "/live/?channel=user-count")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	first := open()
	count(1)
	second := open()
	count(2)
	first.Body.Close()
	count(1)
	second.Body.Close()
	count(0)

	// Who does not know the secret changes nothing.
	resp, err := http.Post("http://"+app+"/hooks", "application/json", strings.NewReader(`{"type":"evstream.connected","data":{"session":"forged"}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged event is answered %s", resp.Status)
	}
	count(0)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	patience := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
