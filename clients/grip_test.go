package main

import (
	"bufio"
	"context"
	"net/http"
	"os"
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
			site, admin, app := free(t), free(t), free(t)
			runApp(t, example, "grip-app.mjs", "PORT="+strings.TrimPrefix(app, "localhost:"), "GRIP_URL=http://"+site+"/_grip"+config.url)

			file, err := os.ReadFile(example + "Caddyfile")
			if err != nil {
				t.Fatal(err)
			}
			edited := "{\n\tadmin " + admin + "\n\tpersist_config off\n}\n\n" + strings.NewReplacer("localhost:3000", app, "localhost:8080", site).Replace(string(file))
			runCaddy(t, edited, site)
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
