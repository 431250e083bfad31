package evstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
	_ "github.com/evstream/caddy-evstream/examples/scoreboard"
	"github.com/evstream/caddy-evstream/internal/nettest"
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
//   - js is the browser tests'.
//
// An answer that is a problem has to be shown. Ids, sizes and times to wait
// differ from run to run and are not compared.
//
// {env.EVSTREAM_TOKEN} is set, as $EVSTREAM_TOKEN is for commands.

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

func TestReadmeIsTrue(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl: make setup installs it")
	}
	t.Setenv("EVSTREAM_TOKEN", token)
	t.Setenv("EVSTREAM_JWT_KEY", "a secret of at least 32 bytes, for tests")
	t.Setenv("REDIS_PASSWORD", "a password")
	d := &document{site: freePort(t), admin: freePort(t), grown: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	all := fences(t, "README.md")
	for _, f := range all {
		d.try(t, f)
		if t.Failed() {
			return // what follows builds on it
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
		compiled(t, f, "stream/example_test.go", "state/example_test.go")
	case "js":
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
	script := strings.NewReplacer(siteShown, d.site, adminShown, d.admin).Replace(f.text)
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
const patience = 20 * time.Second

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

// alike replaces what differs from run to run.
func alike(s string) string {
	for _, r := range differing {
		s = r.shape.ReplaceAllString(s, r.by)
	}
	return strings.TrimSpace(s)
}

var differing = []struct {
	shape *regexp.Regexp
	by    string
}{
	{regexp.MustCompile(`\b1\d{12}-\d+\b`), "ID"},
	{regexp.MustCompile(`(?m)^retry: \d+$`), "retry: N"},
	{regexp.MustCompile(`"session":"[\w-]{22}"`), `"session":"S"`},
	{regexp.MustCompile(`"bytes":\d+`), `"bytes":N`},
	{regexp.MustCompile(`"ticket":"[\w…-]+"`), `"ticket":"T"`},
	{regexp.MustCompile(`"20\d\d-[\d:T.-]+Z"`), `"TIME"`},
}

// compact takes the white space out of JSON.
func compact(s string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(s)) != nil {
		return s
	}
	return b.String()
}

// known fails the test on a command that nobody has looked at.
func known(t *testing.T, f fence) {
	t.Helper()
	for line := range strings.Lines(f.text) {
		tool, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch tool {
		case "go", "make", "xcaddy", "docker", "./caddy":
		default:
			t.Errorf("%s: %q is a command that the tests of documents do not know", f, tool)
		}
	}
	sameCaddy(t, f)
}

// sameCaddy fails the test if a command names another Caddy than go.mod.
func sameCaddy(t *testing.T, f fence) {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`github\.com/caddyserver/caddy/v2 v(\S+)`).FindSubmatch(mod)[1]
	named := regexp.MustCompile(`(?:xcaddy build v|FROM caddy:)(\d+\.\d+\.\d+)`)
	for _, m := range named.FindAllStringSubmatch(f.text, -1) {
		if m[1] != string(want) {
			t.Errorf("%s: names Caddy %s, and go.mod %s", f, m[1], want)
		}
	}
}

// compiled fails the test if the code is not part of one of the files.
func compiled(t *testing.T, f fence, files ...string) {
	t.Helper()
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(code), f.text) {
			return
		}
	}
	t.Errorf("%s: is in none of %q", f, files)
}

// provision adapts and provisions a Caddyfile.
func provision(t *testing.T, f fence, caddyfile string) {
	t.Helper()
	if config := adapt(t, f, caddyfile); config != nil {
		validate(t, f, config)
	}
}

func adapt(t *testing.T, f fence, caddyfile string) []byte {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Errorf("%s: does not adapt: %v", f, err)
		return nil
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") { // columns are easier to read
			t.Errorf("%s: %s", f, w)
		}
	}
	return config
}

func validate(t *testing.T, f fence, config []byte) {
	t.Helper()
	var cfg *caddy.Config
	err := caddy.StrictUnmarshalJSON(config, &cfg)
	if err == nil {
		err = caddy.Validate(cfg)
	}
	if err != nil {
		t.Errorf("%s: does not provision: %v", f, err)
	}
}

// freePort finds an address of localhost that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}

// The example of the design, without what other issues bring: adapter redis.
const designed = `{
	evstream {
		adapter memory
		history 1000 1h
		channel orders/** {
			history 5000 24h
		}
		channel ticker/* {
			history off
		}
		max_connections 50000
	}
}

example.com {
	evstream /live/* {
		jwt {
			key {env.EVSTREAM_JWT_KEY}
		}
		bearer backend {env.EVSTREAM_TOKEN}
		allow anyone  subscribe public/** match.*
		allow user    subscribe,presence users/{user}/**
		allow backend publish,state **
		heartbeat 15s
	}
	reverse_proxy localhost:3000
}
`

func TestDesignedCaddyfileProvisions(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", token)
	t.Setenv("EVSTREAM_JWT_KEY", jwtKey)
	provision(t, fence{file: "design", line: 1, lang: "caddyfile"}, designed)
}

func TestExampleCaddyfileProvisions(t *testing.T) {
	text, err := os.ReadFile("examples/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, fence{file: "examples/Caddyfile", line: 1, lang: "caddyfile"}, string(text))
}

// The main of xcaddy.md is built as it stands there, with this working copy in
// the place of the published module.
func TestXcaddyPageIsTrue(t *testing.T) {
	var main, modules string
	for _, f := range fences(t, "xcaddy.md") {
		switch f.lang {
		case "go":
			main += f.text
		case "text":
			modules += f.text
		case "sh":
			known(t, f)
		case "dockerfile":
			sameCaddy(t, f)
		default:
			t.Errorf("%s: a language that the tests of this document do not know", f)
		}
	}
	if testing.Short() {
		t.Skip("building a Caddy takes its time")
	}
	out, err := exec.CommandContext(t.Context(), build(t, main), "list-modules").CombinedOutput()
	if err != nil {
		t.Fatalf("list-modules: %v\n%s", err, out)
	}
	var listed strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "evstream") {
			listed.WriteString(line)
		}
	}
	if listed.String() != modules {
		t.Errorf("list-modules shows\n%s\nand the page\n%s", listed.String(), modules)
	}
}

// build compiles a Caddy in a module of its own. The module takes over the
// versions of this repository, so that nothing has to be fetched for it.
func build(t *testing.T, main string) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/evstream/caddy-evstream"
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	mod = bytes.Replace(mod, []byte("module "+module), []byte("module caddy"), 1)
	mod = fmt.Appendf(mod, "\nrequire %s v0.0.0\nreplace %s => %q\n", module, module, here)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"main.go": []byte(main), "go.mod": mod, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "caddy")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", binary, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}
