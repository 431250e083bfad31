package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadmeFromTopToBottom does what README.md says, in its order, in an empty
// directory and with a shell for each terminal: files are saved, commands are typed,
// and what it says that is printed must be. Only the port is another one, and Caddy is
// built already.
func TestReadmeFromTopToBottom(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &newcomer{t: t, dir: t.TempDir(), site: freeAddress(t), admin: freeAddress(t)}
	if err := os.Symlink(caddyBinary, filepath.Join(r.dir, "caddy")); err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	for _, f := range fence.FindAllStringSubmatch(string(text), -1) {
		lang, shown := f[1], strings.ReplaceAll(f[2], "localhost:8080", r.site)
		switch {
		case lang == "caddyfile" && strings.Contains(shown, r.site):
			if err := os.WriteFile(filepath.Join(r.dir, "Caddyfile"), []byte(shown), 0o600); err != nil {
				t.Fatal(err)
			}
		case lang == "sh":
			r.shell(shown)
		case lang == "text":
			r.printed(shown)
		}
		if t.Failed() {
			return
		}
	}
	if len(r.open) != 4 {
		t.Errorf("%d commands are left running, expected Caddy and 3 streams", len(r.open))
	}
}

// newcomer is somebody who follows README.md.
type newcomer struct {
	t           *testing.T
	dir         string
	site, admin string
	sourced     string    // what the terminal in which commands end has read
	open        []*logged // what the commands print that are left running
}

// shell runs commands. One that goes on is left running in a terminal of its own.
func (r *newcomer) shell(script string) {
	r.t.Helper()
	if strings.HasPrefix(script, "go run ") {
		return // the example: TestTheExample… run it
	}
	script = regexp.MustCompile(`(?m)^go build .*\n`).ReplaceAllString(script, "")
	script = r.sourced + script
	if strings.Contains(script, ". ./.env\n") {
		r.sourced = ". ./.env\n"
	}
	goesOn := strings.HasPrefix(script, "./caddy run ") || strings.Contains(script, "curl -N ")
	if goesOn {
		before, last, _ := cutLast(strings.TrimSpace(script), "\n")
		script = before + "exec " + last
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if goesOn {
		ctx, cancel = context.WithCancel(context.Background())
	}
	cmd := exec.CommandContext(ctx, "bash", "-ec", "curl() { command curl -sS --fail-with-body \"$@\"; }\n"+script)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "CADDY_ADMIN="+r.admin, "XDG_DATA_HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir)
	out := &logged{}
	cmd.Stdout, cmd.Stderr = out, out
	if !goesOn {
		defer cancel()
		if err := cmd.Run(); err != nil {
			r.t.Errorf("%s\n%v\n%s", script, err, out)
		}
		return
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	r.open = append(r.open, out)
	begun := "serving initial configuration"
	if strings.Contains(script, "curl") {
		begun = "event: evstream.open"
	}
	r.within("the command to begin:\n"+script, func() bool { return out.contains(begun) })
}

// printed waits until one of the commands that are left running has printed it.
func (r *newcomer) printed(shown string) {
	r.t.Helper()
	id := regexp.MustCompile(`(?m)^id: .*\n`)
	r.within("this to be printed:\n"+shown, func() bool {
		for _, out := range r.open {
			if strings.Contains(id.ReplaceAllString(out.String(), ""), shown) {
				return true
			}
		}
		return false
	})
}

func (r *newcomer) within(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			for _, out := range r.open {
				r.t.Logf("printed:\n%s", out)
			}
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// cutLast cuts a text after the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i+len(sep)], s[i+len(sep):], true
	}
	return "", s, false
}
