package evstream

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What scripts go by: the exit status, and where the answer stands.
func TestTheCommandExitsWithItsAnswer(t *testing.T) {
	with, without := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"Caddyfile": explained, "empty": ""} {
		if err := os.WriteFile(filepath.Join(with, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const alice = "explain --mount /live --user alice --do "
	for _, tt := range []struct {
		name, dir, args string
		status          int
		out, err        string // of stdout and stderr
	}{
		{"allowed", with, alice + "subscribe --channel users/alice/x", 0, "allowed by: allow user", ""},
		{"not allowed", with, alice + "publish --channel users/alice/x", 1, "not allowed: no rule allows it", ""},
		{"an empty segment", with, alice + "subscribe --channel users/alice//x", 2, "", "--channel: "},
		{"a pattern to publish to", with, alice + "publish --channel users/*", 2, "", "--channel: "},
		{"all beneath a name to read", with, alice + "subscribe --channel public/", 2, "", "--channel: "},
		{"all beneath a name to set", with, alice + "state --channel public/", 2, "", "--channel: "},
		{"a name of the hub's", with, alice + "subscribe --channel _channels", 2, "", "--channel: "},
		{"no Caddyfile", without, alice + "subscribe --channel a", 2, "", "there is no configuration: this directory has no Caddyfile, and --config names none"},
		{"an empty file", with, alice + "subscribe --channel a --config empty", 2, "", "the configuration empty is empty"},
		{"no such verb", with, alice + "subscibe --channel users/alice/x", 2, "", "--do is one of"},
		{"words, no flags", with, "explain subscribe users/alice/x", 2, "", `takes flags only, such as --do subscribe --channel a, and not "subscribe"`},
		{"a flag of explain", with, "explain --chanel a", 2, "", "unknown flag: --chanel"},
		{"no such bearer", with, "explain --mount /live --bearer nobody --do publish --channel a", 2, "", `there is no bearer "nobody"`},
		{"no such configuration", with, alice + "subscribe --channel a --config nope", 2, "", "nope"},
		{"misspelt", with, strings.Replace(alice, "explain", "explian", 1) + "subscribe --channel a", 2, "", `unknown command "explian" of caddy evstream; did you mean explain?`},
		{"another word", with, "why --do subscribe", 2, "", `unknown command "why" of caddy evstream; there is: `},
		{"of log", with, "log chek --far", 2, "", `unknown command "chek" of caddy evstream log; did you mean check?`},
		{"a flag of a command that speaks to a hub", with, "publish a b --nope", 2, "", "unknown flag: --nope\ncaddy evstream publish --help has an example."},
		{"a hub that is not there", with, "state get a --url http://127.0.0.1:1", 1, "", "nothing listens at http://127.0.0.1:1"},
		{"of no channel", with, "subscribe", 2, "", "takes the names of channels"},
		{"nothing", with, "", 0, "explain", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"evstream"}, strings.Fields(tt.args)...)...)
			cmd.Dir, cmd.Env = tt.dir, append(os.Environ(), "EVSTREAM_TEST_CADDY=1")
			var out, told strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &told
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				t.Fatal(err)
			} else if ok != (tt.status != 0) || ok && exit.ExitCode() != tt.status {
				t.Errorf("exit status: %v, want %d", err, tt.status)
			}
			if !strings.Contains(out.String(), tt.out) || !strings.Contains(told.String(), tt.err) || tt.err == "" && strings.Contains(told.String(), "Error") {
				t.Errorf("got %q and %q, want %q and %q", out.String(), told.String(), tt.out, tt.err)
			}
		})
	}
}

// The configuration that runs is at the admin endpoint, in JSON.
func TestTheCommandExplainsWhatRuns(t *testing.T) {
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, freeAddress(t), "", "allow anyone subscribe public/**")
	})
	status, config := send(t, http.MethodGet, "http://"+p.admin+"/config/", "")
	if status != http.StatusOK {
		t.Fatalf("the configuration: %d %s", status, config)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "evstream", "explain", "--config", "-", "--do", "subscribe", "--channel", "public/a")
	cmd.Env, cmd.Stdin = append(os.Environ(), "EVSTREAM_TEST_CADDY=1"), strings.NewReader(config)
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "allowed by: allow anyone subscribe public/**") {
		t.Errorf("%v, %s", err, out)
	}
}
