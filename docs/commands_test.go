package docs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli"
)

// The page about commands shows what they print. A sh fence of one "subscribe" without an
// end goes on. The text after other commands is all that they have printed; any further
// text is what the last of those that go on has printed, or will.
func TestTheCommandsPageIsTrue(t *testing.T) {
	const file = "docs/commands.md"
	t.Setenv("EVSTREAM_TOKEN", token)
	t.Setenv("EVSTREAM_JWT_KEY", jwtKey)
	t.Setenv("EVSTREAM_URL", "")
	d := newDocument(t)
	t.Setenv("CADDY_ADMIN", d.admin)
	var printed string
	for _, f := range fences(t, file) {
		switch {
		case f.lang == "caddyfile":
			d.caddyfile(t, f)
		case f.lang == "sh" && goesOn(f.text):
			d.follow(t, f)
		case f.lang == "sh":
			if printed != "" {
				t.Errorf("before %s: it is not shown that this is printed:\n%s", f, printed)
			}
			printed = d.shell(t, f)
		case f.lang == "text" && printed != "":
			if got := alikeCommands(printed); got != alikeCommands(f.text) {
				t.Errorf("%s: what is printed is\n%s", f, printed)
			}
			printed = ""
		case f.lang == "text":
			last := d.streams[len(d.streams)-1]
			if !d.wait(func() bool { return strings.Contains(alikeCommands(last.output()), alikeCommands(f.text)) }) {
				t.Errorf("%s: %s has printed\n%s", f, last.of, last.output())
			}
		default:
			t.Errorf("%s: a language that this page does not have", f)
		}
		if t.Failed() {
			return
		}
	}
}

// goesOn reports whether a fence is a subscription without an end.
func goesOn(text string) bool {
	return strings.Contains(text, "caddy evstream subscribe ") && !strings.Contains(text, "--count") && strings.Count(text, "\n") == 1
}

// caddyFunction has a shell run this test binary as caddy.
const caddyFunction = `caddy() { EVSTREAM_TEST_CADDY=1 "$SELF" "$@"; }` + "\n"

// script is the text of a fence for a shell, with the addresses of this test.
func (d *document) script(text string) string {
	return caddyFunction + strings.NewReplacer(siteShown, d.site, adminShown, d.admin).Replace(text)
}

// environment is that of commands.
func environment(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "SELF="+self)
}

// shell runs a fence, and returns what it has printed, on the standard error too.
func (d *document) shell(t *testing.T, f fence) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", d.script(f.text))
	cmd.Env = environment(t)
	out, err := cmd.CombinedOutput()
	if _, status := errors.AsType[*exec.ExitError](err); err != nil && !status || ctx.Err() != nil || len(out) == 0 {
		t.Errorf("%s: %v\n%s", f, err, out)
	}
	return strings.ReplaceAll(string(out), d.site, siteShown)
}

// follow starts a command that goes on, and waits until it is connected.
func (d *document) follow(t *testing.T, f fence) {
	t.Helper()
	s := &stream{of: f, grown: d.grown}
	// exec: the shell could not be ended with it.
	text := strings.Replace(d.script(f.text), "caddy evstream subscribe", `exec "$SELF" evstream subscribe`, 1)
	text = "export EVSTREAM_TEST_CADDY=1\n" + text
	cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
	cmd.Stdout, cmd.Stderr, cmd.Env = s, s, environment(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	d.streams = append(d.streams, s)
	if !d.wait(func() bool { return strings.Contains(s.output(), "# connected, session ") }) {
		t.Fatalf("%s: it does not connect, but prints\n%s", f, s.output())
	}
}

// alikeCommands replaces what differs from run to run, and how wide columns are for it.
func alikeCommands(s string) string {
	for _, r := range []struct{ shape, by string }{
		{`\b1\d{12}-\d+\b`, "ID"},
		{`\b\d\d:\d\d:\d\d\.\d{3}\b`, "CLOCK"},
		{`\b[\w-]{22}(\s)`, "SESSION$1"},
		{`session":"[\w-]{22}"`, `session":"SESSION"`},
		{`(?m)^(match\.\d  +\d+ +\d+ +)\d+ +\d+s +`, "$1 BYTES AGE "},
		{`\b\d+s(  )`, "AGE$1"},
		{`\b1[78]\d{8}\b`, "UNIX"},
		{`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"},
		{`in (1h0m0s|59m5\ds)`, "in HOUR"},
		{` +`, " "},
	} {
		s = regexp.MustCompile(r.shape).ReplaceAllString(s, r.by)
	}
	return strings.TrimSpace(s)
}

// Each command and each of its flags is on the page.
func TestEveryCommandIsDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	flag := regexp.MustCompile("--[a-z][a-z-]*")
	shown := make(map[string]bool)
	for _, name := range flag.FindAllString(page, -1) {
		shown[name] = true
	}
	known := map[string]bool{"--help": true, "--user": true, "--subscribe": true}
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if name := cmd.Name(); !strings.Contains(page, "`"+name) && !strings.Contains(page, " "+name+"`") {
			t.Errorf("%s is not on the page", cmd.CommandPath())
		}
		for _, name := range flag.FindAllString(cmd.LocalFlags().FlagUsages(), -1) {
			if known[name] = true; !shown[name] {
				t.Errorf("%s: %s is not on the page", cmd.CommandPath(), name)
			}
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	root := &cobra.Command{Use: "evstream"}
	root.AddCommand(append(cli.Commands(), cli.TokenInspect())...)
	for _, cmd := range root.Commands() {
		check(cmd)
	}
	for name := range shown {
		if !known[name] {
			t.Errorf("the page has the flag %s, which no command has", name)
		}
	}
}
