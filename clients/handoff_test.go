package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// example runs examples/handoff/run.sh, with a site that also serves a page of the test.
type example struct {
	site, admin, app string
	cmd              *exec.Cmd

	mu    sync.Mutex
	heard []string // what the page has told, without what it tells first
	told  map[string]any
}

func startExample(t *testing.T, which string) *example {
	t.Helper()
	modules, err := filepath.Abs("../bin/clients")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range []string{"run.sh", "app.mjs", "app.py", "Caddyfile"} {
		text, err := os.ReadFile(filepath.Join("..", "examples", "handoff", file))
		if err != nil {
			t.Fatal(err)
		}
		if file == "Caddyfile" {
			text = bytes.Replace(text, []byte("{\n\tadmin"), []byte("{\n\tpersist_config off\n\tadmin"), 1)
			text = bytes.Replace(text, []byte("\treverse_proxy "), []byte("\treverse_proxy /test/* {$TEST}\n\treverse_proxy "), 1)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	e := &example{site: free(t), admin: free(t), app: free(t)}
	page := e.page(t)
	e.cmd = command(context.Background(), dir, "sh", "run.sh", which)
	e.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
		"CADDY="+made(t, "caddy-clients"), "SITE="+e.site, "ADMIN="+e.admin, "APP="+e.app, "TEST="+page)
	e.cmd.Stdout, e.cmd.Stderr = os.Stderr, os.Stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL) }) // what run.sh has not ended
	t.Cleanup(func() {
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		if err := e.cmd.Wait(); err != nil {
			t.Error("run.sh exits with", err)
		}
		eventually(t, "the application to end with run.sh", func() bool { return !listens(e.app) })
	})
	eventually(t, "the example to answer", func() bool {
		resp, err := http.Get("http://" + e.site + "/football/a")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	return e
}

// started is the process of the application, which run.sh starts first.
func (e *example) started(t *testing.T) (pid int) {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", e.cmd.Process.Pid))
	if err == nil {
		_, err = fmt.Sscan(string(list), &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// listens reports whether somebody listens at an address.
func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// page serves the page, and hears what it tells.
func (e *example) page(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/test/page", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "other/scores.html") })
	mux.HandleFunc("/test/heard", func(_ http.ResponseWriter, r *http.Request) {
		var what map[string]any
		if err := json.NewDecoder(r.Body).Decode(&what); err != nil {
			t.Error("the page tells", err)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if what["type"] == "opened" {
			e.told = what
			return
		}
		text, _ := json.Marshal(what)
		e.heard = append(e.heard, string(text))
	})
	server := &http.Server{Handler: mux} //nolint:gosec // for one browser of our own
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// hears waits until the page has told all of want, in whatever order.
func (e *example) hears(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("the page heard %s", strings.Join(got, "\n"))
		}
	}()
	eventually(t, fmt.Sprint("the page to hear ", want), func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		got = slices.Sorted(slices.Values(e.heard))
		return slices.Equal(got, want)
	})
	e.mu.Lock()
	e.heard = nil
	e.mu.Unlock()
}

// The program of the article that the scoreboard is from, with handoff: users sign in with a
// session of the application, matches of two sports are rooms, and what is published reaches
// the pages of its room, also while the application is away.
func TestTheScoresOfTwoSportsInABrowser(t *testing.T) {
	for _, which := range []string{"express", "python"} {
		t.Run(which, func(t *testing.T) {
			e := startExample(t, which)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			browser, err := chromium(ctx, t.TempDir(), "http://"+e.site+"/test/page")
			if err != nil {
				t.Fatal(err)
			}
			if err := browser.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cancel(); _ = browser.Wait() })
			const arsenal, leeds, india = "/football/arsenal-vs-chelsea", "/football/leeds-vs-spurs", "/cricket/ind-vs-aus"
			welcome := func(path string) string { return fmt.Sprintf(`{"path":%q,"type":"welcome","user":"Zoë"}`, path) }
			e.hears(t, welcome(arsenal), welcome(leeds), welcome(india))
			eventually(t, "the page to be open", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.told != nil })
			if got := fmt.Sprint(e.told["before"], e.told["login"], e.told["after"], e.told["cookie"]); got != "[false false false] 204 [true true true]" {
				t.Errorf("before signing in, status, after, and the cookie that a script sees: %q", got)
			}

			emit := func(to, event, data string) {
				t.Helper()
				r, err := http.NewRequest(http.MethodPost, "http://"+e.admin+"/evstream/"+to+"?event="+event, strings.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Fatal(resp.Status)
				}
			}
			// Who works for the site publishes through the application.
			session := e.login(t)
			through := func(path, data string) {
				t.Helper()
				r, err := http.NewRequest(http.MethodPost, "http://"+e.site+path, strings.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				r.AddCookie(session)
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusNoContent {
					t.Fatal(path, resp.Status)
				}
			}
			through(arsenal+"?event=score_update", `{"homeScore":2}`)
			e.hears(t, `{"homeScore":2,"path":"`+arsenal+`","type":"score_update"}`)
			through(india+"?event=wicket", `{"totalWickets":3}`)
			e.hears(t, `{"path":"`+india+`","totalWickets":3,"type":"wicket"}`)
			through("/football/all?event=announcement", `{"message":"no VAR today"}`)
			e.hears(t, `{"message":"no VAR today","path":"`+arsenal+`","type":"announcement"}`, `{"message":"no VAR today","path":"`+leeds+`","type":"announcement"}`)

			// The application goes; its streams stay.
			if err := syscall.Kill(e.started(t), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the application to be gone", func() bool { return !listens(e.app) })
			emit("football/leeds-vs-spurs", "match_end", `{"finalScore":"1 - 1"}`)
			e.hears(t, `{"finalScore":"1 - 1","path":"`+leeds+`","type":"match_end"}`)
		})
	}
}

// login signs somebody in.
func (e *example) login(t *testing.T) *http.Cookie {
	t.Helper()
	resp, err := http.Post("http://"+e.site+"/login", "application/x-www-form-urlencoded", strings.NewReader("user=reporter"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			return c
		}
	}
	t.Fatal("signing in:", resp.Status)
	return nil
}
