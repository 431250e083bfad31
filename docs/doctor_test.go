package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/bench"
	"github.com/evstream/caddy-evstream/cli/doctor"
)

const doctorPage = "docs/doctor.md"

// What the page shows of doctor and bench is what they print, but for figures.
func TestTheDoctorPageIsTrue(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", "")
	d := newDocument(t)
	var printed string
	for _, f := range fences(t, doctorPage) {
		switch f.lang {
		case "caddyfile":
			d.caddyfile(t, f)
		case "sh":
			printed = d.examined(t, f)
		case "text":
			if got := alikeDoctor(printed); got != alikeDoctor(f.text) {
				t.Errorf("%s: what is printed is\n%s", f, printed)
			}
		default:
			t.Errorf("%s: a language that this page does not have", f)
		}
		if t.Failed() {
			return
		}
	}
}

// examined runs doctor or bench, and returns what it prints.
func (d *document) examined(t *testing.T, f fence) string {
	t.Helper()
	command, ok := strings.CutPrefix(strings.ReplaceAll(f.text, siteShown, d.site), "caddy ")
	if !ok {
		t.Fatalf("%s: no command of Caddy's", f)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, strings.Fields(command)...)
	cmd.Env = append(os.Environ(), "EVSTREAM_TEST_CADDY=1")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Errorf("%s: %v", f, err)
	}
	return strings.ReplaceAll(string(out), d.site, siteShown)
}

// alikeDoctor replaces what differs from run to run: figures, bars, and remarks about a
// machine that is busy.
func alikeDoctor(s string) string {
	for _, r := range []struct{ shape, by string }{
		{`doctor-[0-9a-f]{16}`, "CHANNEL"},
		{`(?m)^(  < |! ).*\n`, ""},
		{`\d[\d,]*(\.\d+)?`, "N"},
		{`N ?(ns|µs|ms|s)\b`, "N s"},
	} {
		s = regexp.MustCompile(r.shape).ReplaceAllString(s, r.by)
	}
	return strings.TrimSpace(s)
}

// nginxTakes has nginx read a part of a server.
func nginxTakes(t *testing.T, f fence) {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	text := "pid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += name + "_temp_path " + name + ";\n"
	}
	if err := os.WriteFile(file, []byte(text+"server {\n"+f.text+"}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "-t", "-p", dir, "-c", file, "-e", filepath.Join(dir, "log")).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", f, err, out)
	}
}

// Every flag is on the page, and it has no other.
func TestEveryFlagOfDoctorAndBenchIsDocumented(t *testing.T) {
	text, err := os.ReadFile(doctorPage)
	if err != nil {
		t.Fatal(err)
	}
	flag := regexp.MustCompile("--[a-z][a-z-]*")
	shown, known := map[string]bool{}, map[string]bool{}
	for _, name := range flag.FindAllString(string(text), -1) {
		shown[name] = true
	}
	for _, cmd := range []*cobra.Command{doctor.Command(), bench.Command()} {
		for _, name := range flag.FindAllString(cmd.LocalFlags().FlagUsages(), -1) {
			if known[name] = true; !shown[name] {
				t.Errorf("%s: %s is not on the page", cmd.Name(), name)
			}
		}
	}
	for name := range shown {
		if !known[name] {
			t.Errorf("the page has the flag %s, which no command has", name)
		}
	}
}
