package main

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The application of examples/grip is as it stands there, with the libraries of npm as
// they are: they check who the proxy is, hold, and publish with a token, a key, and a
// password.
func TestTheGRIPApplicationHasItsStreamsHeld(t *testing.T) {
	const example, key = "../examples/grip/", "a-key-that-both-know"
	for name, config := range map[string]struct{ url, sees string }{
		"a token": {"?iss=evstream&key=" + key, "true"},
		"a key":   {"?key=" + key, "false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GRIP_KEY", key)
			modules, err := filepath.Abs("../bin/clients")
			if err != nil {
				t.Fatal(err)
			}
			site, admin, app := free(t), free(t), free(t)
			text, err := os.ReadFile(example + "app.mjs")
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(modules, "grip-app.mjs") // beside node_modules, where it finds them
			if err := os.WriteFile(program, text, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(program) })
			cmd := exec.Command("node", program)
			cmd.Env = append(os.Environ(), "PORT="+strings.TrimPrefix(app, "localhost:"), "GRIP_URL=http://"+site+"/_grip"+config.url)
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

			file, err := os.ReadFile(example + "Caddyfile")
			if err != nil {
				t.Fatal(err)
			}
			edited := "{\n\tadmin " + admin + "\n\tpersist_config off\n}\n\n" + strings.NewReplacer("localhost:3000", app, "localhost:8080", site).Replace(string(file))
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
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = server.Process.Signal(os.Interrupt)
				if err := server.Wait(); err != nil {
					t.Error("Caddy exits with", err)
				}
			})
			for _, address := range []string{app, site} {
				eventually(t, address+" to listen", func() bool {
					resp, err := http.Get("http://" + address + "/")
					if err == nil {
						resp.Body.Close()
					}
					return err == nil && resp.StatusCode != http.StatusBadGateway
				})
			}
			if resp, err := http.Get("http://" + app + "/rooms/1"); err != nil || resp.StatusCode != http.StatusNotImplemented {
				t.Errorf("without a proxy the application answers %v, %v", resp, err)
			}

			expect := readStream(t, "http://"+site+"/rooms/1", "")
			expect("event: stream-open", "data: "+config.sees, "")
			post := func(text string) {
				t.Helper()
				resp, err := http.Post("http://"+site+"/rooms/1", "text/plain", strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusNoContent {
					t.Fatalf("publishing is answered %s", resp.Status)
				}
			}
			post("hello")
			expect("id: 1", "data: hello", "")
			post("again")
			expect("id: 2", "data: again", "")
			// Who comes again is answered by the application.
			readStream(t, "http://"+site+"/rooms/1", "1")("event: stream-open", "data: "+config.sees, "", "id: 2", "data: again", "")
		})
	}
}

// readStream opens a stream, and returns what reads lines of it.
func readStream(t *testing.T, url, last string) (expect func(lines ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	return func(want ...string) {
		t.Helper()
		for _, line := range want {
			if !lines.Scan() || lines.Text() != line {
				t.Fatalf("the stream has %q (%v), want %q", lines.Text(), lines.Err(), line)
			}
		}
	}
}
