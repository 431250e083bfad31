package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

// The program does what README.md begins with, and knows users by their token.
func TestTheProgramServesWhatTheReadmeShows(t *testing.T) {
	base := "http://" + start(t) + "/live/"
	stream := read(t, base+"match.7", "")
	if status, body := publish(t, base+"match.7?event=score", `{"home":2}`, ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	stream.expect("event: score", `data: {"home":2}`)

	alice := authtest.Sign(t, "HS256", authtest.Alice(nil))
	bob := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": "bob"}))
	own := read(t, base+"users/alice/inbox", alice)
	for name, tt := range map[string]struct {
		token string
		want  int
	}{
		"nobody":      {"", http.StatusUnauthorized},
		"a bad token": {alice + "x", http.StatusUnauthorized},
		"bob":         {bob, http.StatusForbidden},
		"alice":       {alice, http.StatusOK},
	} {
		if status, body := publish(t, base+"users/alice/inbox", name, tt.token); status != tt.want {
			t.Errorf("%s gets %d %s, want %d", name, status, body, tt.want)
		}
	}
	own.expect("data: alice")
}

// TestMain is the program itself, where start asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("ADDRESS") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program, and returns where it listens.
func start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ADDRESS="+address, "JWT_SECRET="+authtest.Secret)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	looks := time.NewTicker(10 * time.Millisecond)
	defer looks.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-looks.C {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return address
		}
	}
	t.Fatal("it does not listen")
	return ""
}

func publish(t *testing.T, url, data, token string) (int, string) {
	t.Helper()
	resp := do(t, http.MethodPost, url, data, token)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func do(t *testing.T, method, url, data, token string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// reader reads the lines of a stream.
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
}

// read subscribes, and reads to the end of the opening event.
func read(t *testing.T, url, token string) *reader {
	t.Helper()
	resp := do(t, http.MethodGet, url, "", token)
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, resp.Status)
	}
	r := &reader{t, bufio.NewScanner(resp.Body)}
	r.expect("event: evstream.open")
	return r
}

// expect waits for lines, in their order; others may stand between them.
func (r *reader) expect(lines ...string) {
	r.t.Helper()
	for _, want := range lines {
		for r.lines.Text() != want {
			if !r.lines.Scan() {
				r.t.Fatalf("the stream ends before %q", want)
			}
		}
	}
}
