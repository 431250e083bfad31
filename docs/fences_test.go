package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/golang-jwt/jwt/v5"

	_ "github.com/evstream/caddy-evstream"
	_ "github.com/evstream/caddy-evstream/examples/scoreboard"
	"github.com/evstream/caddy-evstream/hooks"
	"github.com/evstream/caddy-evstream/internal/nettest"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// What the documents show is tried, by the language of each fence:
//
//   - caddyfile is adapted and provisioned. One with the site
//     http://localhost:8080 runs, in place of the one before it.
//   - json is a configuration if it has "apps", and is provisioned; otherwise
//     it is what the commands before it were answered.
//   - sh is run, if it has curl, against what runs. "curl -N" opens a stream
//     that stays open. Other commands are not run, but known.
//   - text is what one of the open streams shows, by now or soon; after
//     "list-modules" or "./caddy evstream" it is what that prints.
//   - go is found in a file that is compiled.
//   - dockerfile names the version of Caddy that go.mod names; so does sh.
//   - yaml asks for URLs of health, each of which is answered 200.
//   - js is the browser tests'.
//   - javascript is a part of a file of the examples, or of the tests of clients, as
//     it stands there; html, php and ruby are of the tests of clients.
//   - python is run, and finds what runs at EVSTREAM_URL.
//   - nginx is a part of a server that nginx takes; haproxy is what the tests of
//     clients run.
//
// An answer that is a problem has to be shown. Ids, sizes and times to wait
// differ from run to run and are not compared.
//
// {env.EVSTREAM_TOKEN}, {env.EVSTREAM_JWT_KEY}, {env.EVSTREAM_HOOK_SECRET}, {env.GRIP_KEY}
// and {env.REDIS_PASSWORD} are set, as $EVSTREAM_TOKEN is for commands. $TOKEN is a token of the user alice.

// fence is one block of code of a document.
type fence struct {
	file string
	line int
	lang string
	text string
}

func (f fence) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.lang) }

// fences reads the blocks of a Markdown file.
func fences(t *testing.T, file string) []fence {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []fence
	var open *fence
	for i, line := range strings.Split(string(data), "\n") {
		lang, mark := strings.CutPrefix(line, "```")
		switch {
		case !mark && open != nil:
			open.text += line + "\n"
		case mark && open == nil:
			open = &fence{file: file, line: i + 1, lang: lang}
		case mark:
			if lang != "" {
				t.Fatalf("%s:%d: a fence opens within one", file, i+1)
			}
			list = append(list, *open)
			open = nil
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the fence does not close", file, open.line)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no fences", file)
	}
	return list
}

const (
	token      = "a-secret-of-the-test"
	jwtKey     = "a secret of at least 32 bytes, for tests"
	siteShown  = "localhost:8080"
	adminShown = "localhost:2019"
)

// document is what a file's fences run in: one Caddy, and the streams that are
// open.
type document struct {
	site, admin string // addresses in place of those that are shown
	running     bool
	streams     []*stream
	grown       chan struct{} // a stream has got something
	answer      string        // of the commands before
	unseen      bool          // the answer holds a problem that was not shown yet
	shownLast   string        // the Caddyfile that was shown last
	printed     string        // by a command of Caddy's; the next text shows it
}

// newDocument makes a Caddy's place, which ends with the test.
func newDocument(t *testing.T) *document {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl: make setup installs it")
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return documentAt(t)
}

// documentAt is a document with addresses on which nobody listens.
func documentAt(t *testing.T) *document {
	t.Helper()
	base := redistest.FreePorts(t, 0, 1)
	return &document{site: fmt.Sprint("localhost:", base), admin: fmt.Sprint("localhost:", base+1), grown: make(chan struct{}, 1)}
}

// page tries all that a document shows, one fence after the other.
func page(t *testing.T, file string) {
	t.Helper()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "alice", "org": "acme", "roles": []string{"editor"},
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}).SignedString([]byte(jwtKey))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("EVSTREAM_TOKEN", token)
	t.Setenv("EVSTREAM_JWT_KEY", jwtKey)
	t.Setenv("REDIS_PASSWORD", "a password")
	t.Setenv("EVSTREAM_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	t.Setenv("GRIP_KEY", "a-key-of-the-tests")
	t.Setenv("TOKEN", signed)
	newDocument(t).all(t, fences(t, file))
}

// all tries the fences, and stops at the first that fails: what follows builds
// on it.
func (d *document) all(t *testing.T, all []fence) {
	t.Helper()
	for _, f := range all {
		d.try(t, f)
		if t.Failed() {
			return
		}
	}
	d.shown(t, all[len(all)-1])
}

func (d *document) try(t *testing.T, f fence) {
	t.Helper()
	switch f.lang {
	case "caddyfile":
		d.caddyfile(t, f)
	case "json":
		d.json(t, f)
	case "sh":
		d.sh(t, f)
	case "text":
		d.text(t, f)
	case "go":
		compiled(t, f)
	case "yaml":
		probes(t, f, d.admin)
	case "js":
	case "javascript":
		program(t, f)
	case "html", "php", "ruby":
		recipe(t, f)
	case "python":
		d.python(t, f)
	case "nginx":
		nginxTakes(t, f)
	case "haproxy":
		throughHAProxy(t, f)
	default:
		t.Errorf("%s: a language that the tests of documents do not know", f)
	}
}

// caddyfile provisions a configuration, and runs it where that is meant.
func (d *document) caddyfile(t *testing.T, f fence) {
	t.Helper()
	d.shownLast = f.text
	provision(t, f, f.text)
	if !strings.Contains(f.text, "http://"+siteShown+" {") || t.Failed() {
		return
	}
	config := adapt(t, f, strings.ReplaceAll(f.text, siteShown, d.site))
	var parsed map[string]any
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	parsed["admin"] = map[string]any{"listen": d.admin, "config": map[string]any{"persist": false}}
	config, err := json.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Errorf("%s: does not run: %v", f, err)
		return
	}
	nettest.Settled(t, os.Getpid())
	d.running = true
}

// json provisions a configuration, or compares an answer.
func (d *document) json(t *testing.T, f fence) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(f.text), &object); err != nil {
		t.Errorf("%s: %v", f, err)
		return
	}
	if _, ok := object["apps"]; ok {
		validate(t, f, []byte(f.text))
		return
	}
	if strings.HasPrefix(string(object["type"]), `"`+hooks.TypePrefix) {
		payload(t, f)
		return
	}
	want, got := compact(f.text), compact(d.answer)
	if alike(got) != alike(want) {
		t.Errorf("%s: the answer is\n%s\nnot\n%s", f, got, want)
	}
	d.answer, d.unseen = "", false
}

// shown fails the test if an answer before f is a problem that no fence shows.
func (d *document) shown(t *testing.T, f fence) {
	t.Helper()
	if d.unseen {
		t.Errorf("before %s: an error that is not shown: %s", f, d.answer)
	}
}

// sh runs commands that have curl.
func (d *document) sh(t *testing.T, f fence) {
	t.Helper()
	d.shown(t, f)
	if command, ok := strings.CutPrefix(f.text, "./caddy evstream "); ok {
		d.printed = d.command(t, f, "evstream "+command)
		return
	}
	if !strings.Contains(f.text, "curl ") {
		known(t, f)
		return
	}
	if !d.running {
		t.Errorf("%s: nothing runs yet", f)
		return
	}
	// What was shown last runs already, and the environment is set.
	script := strings.NewReplacer("./caddy reload\n", "", ". ./.env\n", "", "TOKEN=$(./caddy evstream token --user alice)\n", "", siteShown, d.site, adminShown, d.admin).Replace(f.text)
	if command, ok := strings.CutPrefix(script, "curl -N "); ok {
		if strings.Contains(strings.TrimSpace(command), "\n") {
			t.Errorf("%s: a stream stands alone", f)
			return
		}
		d.open(t, f, "exec curl -sS -N "+command)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// Each answer on a line of its own.
	prelude := "set -e\ncurl() { command curl -sS \"$@\" && echo; }\n"
	out, err := exec.CommandContext(ctx, "sh", "-c", prelude+script).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", f, err, out)
	}
	d.answer = string(out)
	d.unseen = strings.Contains(d.answer, "urn:evstream:problem:")
	if strings.TrimSpace(d.answer) == "" {
		t.Errorf("%s: there is no answer", f)
	}
}

// command runs a command of Caddy's, which this test binary is, too, beside the
// Caddyfile that was shown last.
func (d *document) command(t *testing.T, f fence, arguments string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(d.shownLast), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, strings.Fields(arguments)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "EVSTREAM_TEST_CADDY=1")
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Contains(arguments, "explain") {
		err = nil // it says no
	}
	if err != nil || len(out) == 0 {
		t.Errorf("%s: %v, and %q is printed", f, err, out)
	}
	return string(out)
}

// text waits for a stream to show what the document shows.
func (d *document) text(t *testing.T, f fence) {
	t.Helper()
	if d.printed != "" {
		if d.printed != f.text {
			t.Errorf("%s: what is printed is\n%s", f, d.printed)
		}
		d.printed = ""
		return
	}
	shown := func() bool {
		return slices.ContainsFunc(d.streams, func(s *stream) bool {
			return strings.Contains(alike(s.output()), alike(f.text))
		})
	}
	if d.wait(shown) {
		return
	}
	t.Errorf("%s: no stream shows\n%s", f, f.text)
	for _, s := range d.streams {
		t.Logf("%s shows\n%s", s.of, s.output())
	}
}

// wait looks whenever a stream has got something, until ok or patience ends.
func (d *document) wait(ok func() bool) bool {
	patient := time.NewTimer(patience)
	defer patient.Stop()
	for !ok() {
		select {
		case <-d.grown:
		case <-patient.C:
			return ok()
		}
	}
	return true
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// stream is a "curl -N" that goes on.
type stream struct {
	of    fence
	grown chan<- struct{} // told of each write

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.grown <- struct{}{}:
	default:
	}
	return s.out.Write(p)
}

func (s *stream) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// open starts a command, and returns once its stream has opened: what is
// published from then on it gets.
func (d *document) open(t *testing.T, f fence, command string) {
	t.Helper()
	s := &stream{of: f, grown: d.grown}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if !d.wait(func() bool { return strings.Contains(s.output(), "event: evstream.open\n") }) {
		t.Fatalf("%s: the stream does not open, but shows\n%s", f, s.output())
	}
	d.streams = append(d.streams, s)
}
