package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const explained = `http://localhost {
	@office remote_ip 10.0.0.0/8
	evstream /live/* {
		bearer backend {env.NOT_SET_ANYWHERE}
		jwt {
			key {env.NOT_SET_ANYWHERE}
		}
		allow anyone           subscribe public/**
		allow user             subscribe users/{user}/**
		allow claim role admin all       **
		allow @office          publish   office/*
		allow backend          publish   **
	}
	handle /chat/* {
		evstream {
			mount /chat
			allow anyone subscribe **
		}
	}
}
`

func TestTheCommandExplainsAConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(explained), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, args, want string }{
		{"a user", "--mount /live --user alice --do subscribe --channel users/alice/x", `user "alice", to subscribe "users/alice/x": allowed by: allow user subscribe users/{user}/**`},
		{"another's", "--mount /live/ --user alice --do subscribe --channel users/bob/x", "not allowed: no rule allows it"},
		{"a bearer", "--mount /live --bearer backend --do publish --channel a/", "allowed by: allow backend publish **"},
		{"a claim", "--mount /live --claim role=admin --do publish --channel a/", "allowed by: allow claim role admin all **"},
		{"a claim in JSON", `--mount /live --claim role=["user","admin"] --do state --channel a`, "allowed by: allow claim role admin all **"},
		{"grants", `--mount /live --claim evstream={"subscribe":["room/*"]} --do subscribe --channel room/1`, "allowed by: the token's grant subscribe room/*"},
		{"a matcher", "--mount /live --matcher @office --do publish --channel office/1", "allowed by: allow @office publish office/*"},
		{"no matcher", "--mount /live --do publish --channel office/1", "allow @office publish office/*\n    is not about this caller"},
		{"the other handler", "--mount /chat --do subscribe --channel **", "allowed by: allow anyone subscribe **"},
		{"which", "--do subscribe --channel a", "there is more than one handler: select one with --mount; the mounts are: "},
		{"no such mount", "--mount /x --do subscribe --channel a", "there is no handler with the mount /x; the mounts are: "},
		{"no such bearer", "--mount /live --bearer x --do subscribe --channel a", `there is no bearer "x"`},
		{"no such matcher", "--mount /live --matcher @x --do subscribe --channel a", `no rule has the matcher "@x"`},
		{"a bearer with a user", "--mount /live --bearer backend --user x --do subscribe --channel a", "--bearer excludes --user and --claim"},
		{"a claim without a value", "--mount /live --claim role --do subscribe --channel a", `a claim is name=value, not "role"`},
		{"bad grants", "--mount /live --claim evstream=x --do subscribe --channel a", "is not an object of verbs"},
		{"nothing to do", "--mount /live --channel a", "--do and --channel are required"},
		{"all", "--mount /live --do all --channel a", `--do is one of subscribe, publish, purge, state, session, presence, console, not "all"`},
		{"no file", "--config nowhere --adapter caddyfile --do subscribe --channel a", "nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := explainCommand()
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			var out strings.Builder
			cmd.SetOut(&out)
			cmd.SetArgs(append([]string{"--config", file, "--adapter", "caddyfile"}, strings.Fields(tt.args)...))
			if err := cmd.Execute(); err != nil {
				out.WriteString(err.Error())
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("got %s, want %s", out.String(), tt.want)
			}
		})
	}
}

func TestAConfigurationWithoutAHandlerIsNotExplained(t *testing.T) {
	q := question{do: "subscribe", channel: "a"}
	for config, want := range map[string]string{
		`{"apps":{}}`:                            "has no evstream handler",
		`{`:                                      "reading the configuration",
		`{"x":{"handler":"evstream","alow":[]}}`: `unknown field "alow"`,
		`{"x":{"handler":"evstream"}}`:           "there is no allow rule",
	} {
		if err := q.answer(new(strings.Builder), []byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
