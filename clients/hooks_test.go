package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of this test alone

func free(t *testing.T) string {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(address, "127.0.0.1", "localhost", 1)
}

// The application of docs/hooks.md is as it stands in examples/hooks, and the library that
// checks the signatures is that of Standard Webhooks.
func TestTheApplicationCountsWhoIsOnline(t *testing.T) {
	const example = "../examples/hooks/"
	modules, err := filepath.Abs("../bin/clients")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("EVSTREAM_HOOK_SECRET", secret)
	site, admin, app := free(t), free(t), free(t)
	const page = "\theader /page Content-Type text/html\n\trespond /page \"<script>new EventSource('/live/user-count')</script>\"\n"
	text, err := os.ReadFile(example + "app.mjs")
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

	file, err := os.ReadFile(example + "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer("localhost:3000", app, "localhost:8080", site, "\tevstream /live/* {", page+"\tevstream /live/* {", "{\n\tevstream {", "{\n\tadmin "+admin+"\n\tpersist_config off\n\tevstream {").Replace(string(file))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Abs("../bin/caddy-clients")
	if err != nil {
		t.Fatal(err)
	}
	server := command(context.Background(), dir, binary, "run")
	server.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	eventually(t, "the application to listen", func() bool {
		resp, err := http.Get("http://" + app + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		if err := server.Wait(); err != nil {
			t.Error("Caddy exits with", err)
		}
	})
	eventually(t, "Caddy to listen", func() bool {
		resp, err := http.Get("http://" + site + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
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

	// So does a browser whose processes are killed, which says nothing.
	browser, err := chromium(context.Background(), t.TempDir(), "http://"+site+"/page")
	if err != nil {
		t.Fatal(err)
	}
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL)
		_ = browser.Wait()
	})
	t.Cleanup(kill)
	count(1)
	kill()
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
