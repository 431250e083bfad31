package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// What is found only when a configuration is loaded, by another process than the one
// that read the Caddyfile: the error has the line of the Caddyfile nevertheless.
func TestErrorsOfTheRunningCaddyNameTheLine(t *testing.T) {
	const must = "{env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy, and is unset or empty"
	site := func(lines string) string {
		return "http://127.0.0.1:0 {\n\tevstream /live/* {\n" + lines + "\n\t\tallow anyone subscribe **\n\t}\n}\n"
	}
	global := func(lines string) string {
		return strings.TrimSuffix(options("evstream {\n"+lines+"\n}"), "}\n") + "}\n" + site("")
	}
	for name, tt := range map[string]struct{ file, want string }{
		"a bearer":           {options("") + site("bearer b {env.EVSTREAM_TEST_UNSET}"), `the secret of bearer "b": ` + must + ", at Caddyfile:10"},
		"a key":              {options("") + site("jwt {\n\nkey {env.EVSTREAM_TEST_UNSET}\n}"), "jwt: key 1: " + must + ", at Caddyfile:12"},
		"a ticket key":       {options("") + site("bearer b a-long-secret-of-the-test\ntickets {\nkey {env.EVSTREAM_TEST_UNSET}\n}"), "tickets: key 1: " + must + ", at Caddyfile:12"},
		"a missing file":     {options("") + site("bearer b {file./nonexistent/secret}"), "{file./nonexistent/secret} cannot be read by the running Caddy: open /nonexistent/secret: no such file or directory, at Caddyfile:10"},
		"a misspelt one":     {options("") + site("bearer b {ENV.EVSTREAM_TEST_UNSET}"), "{file./absolute/path}, at Caddyfile:9"},
		"of a snippet":       {options("") + "(secret) {\nbearer b {env.EVSTREAM_TEST_UNSET}\n}\n" + site("import secret"), must + ", at Caddyfile:9 import chain ['Caddyfile:13 (import secret)']"},
		"of a named route":   {options("") + "&(live) {\nevstream {\nmount /live\nbearer b {env.EVSTREAM_TEST_UNSET}\nallow b publish **\n}\n}\nhttp://127.0.0.1:0 {\ninvoke live\n}\n", must + ", at Caddyfile:11"},
		"a hook's secret":    {global("on connected http://localhost:3000 {\nsecret {env.EVSTREAM_TEST_UNSET}\n}"), "on: hook 1: secret 1: " + must + ", at Caddyfile:8"},
		"a hook's URL":       {global("on connected {env.EVSTREAM_TEST_UNSET} {\nsecret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n}"), "the URL: " + must + ", at Caddyfile:7"},
		"Redis's URL":        {global("\nadapter redis {env.EVSTREAM_TEST_UNSET}"), must + ", at Caddyfile:8"},
		"Redis's password":   {global("adapter redis redis://127.0.0.1:1 {\npassword {env.EVSTREAM_TEST_UNSET}\n}"), must + ", at Caddyfile:8"},
		"a log's path":       {global("adapter bolt /tmp/{env.EVSTREAM_TEST_UNSET}"), must + ", at Caddyfile:7"},
		"a schema":           {global("channel a {\nschema /nonexistent/a.json\n}"), "/nonexistent/a.json: no such file or directory, at Caddyfile:6"},
		"another broker's":   {strings.Replace(global("\nadapter redis {env.EVSTREAM_TEST_UNSET}"), "evstream {", "evstream chat {", 1), `broker "chat": `},
		"a secret of braces": {options("") + site("bearer b {$EVSTREAM_TEST_BRACES:{env.EVSTREAM_TEST_UNSET}}"), must + ", at Caddyfile:10"},
	} {
		err := validate(t, tt.file)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), ", at Caddyfile:") != 1 {
			t.Errorf("%s: got the error %v\nwant once, at its end %s", name, err, tt.want)
		}
	}
}

// Two blocks for one mount are named with their lines, whatever they stand in, also
// where the second one is the block of another file.
func TestHandlersOfOneMountAreNamedByLine(t *testing.T) {
	const rule = "allow anyone subscribe **\n}\n"
	other := filepath.Join(t.TempDir(), "live.caddy")
	if err := os.WriteFile(other, []byte("# live\nevstream /live/* {\n"+rule), 0o600); err != nil {
		t.Fatal(err)
	}
	const live, inner = "evstream /live/* {\n" + rule, "evstream {\nmount /live\n" + rule
	for name, tt := range map[string]struct{ site, first, second string }{
		"two blocks":       {live + live, "at Caddyfile:20, ", "at Caddyfile:23, "},
		"two routes":       {"route {\n" + live + "}\nroute {\n" + live + "}\n", "at Caddyfile:21, ", "at Caddyfile:26, "},
		"a handle":         {live + "handle {\n" + inner + "}\n", "at Caddyfile:20, ", "at Caddyfile:24, "},
		"a snippet, twice": {"import live\nimport live\n", "at Caddyfile:9 import chain ['Caddyfile:20 (import live)'], ", "at Caddyfile:9 import chain ['Caddyfile:21 (import live)'], "},
		"another file":     {"route {\n" + live + "import " + other + "\n}\n", "at Caddyfile:21, ", "at " + other + ":2 import chain ['Caddyfile:24 (import)'], "},
		"a named route":    {"route {\n" + live + "invoke live\n}\n", "at Caddyfile:21, ", "at Caddyfile:14, "},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, options(""))
			file := options("") + "(live) {\n" + live + "}\n&(live) {\n" + inner + "}\nhttp://" + freeAddress(t) + " {\n" + tt.site + "}\n"
			for by, err := range map[string]error{"a validation": validate(t, file), "a reload": reload(t, file)} {
				if err == nil || !strings.Contains(err.Error(), "the second one ("+tt.second) || !strings.Contains(err.Error(), "the first one ("+tt.first) {
					t.Errorf("%s: %v\nwant %s and %s", by, err, tt.first, tt.second)
				}
			}
		})
	}
}

// A {$NAME} is gone before the Caddyfile is read; the error finds it in the file.
func TestUnsetVariablesOfTheCaddyfileAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	for _, tt := range []struct{ line, want string }{
		{"bearer backend {$EVSTREAM_TEST_UNSET}", "; {$EVSTREAM_TEST_UNSET} is not set in the environment of this command. Write {env.NAME}"},
		{"cookie {$EVSTREAM_TEST_UNSET}", "; {$EVSTREAM_TEST_UNSET} is not set in the environment of this command, at "},
		{"cors {$EVSTREAM_TEST_UNSET} {$EVSTREAM_TEST_UNSET_2}", "; {$EVSTREAM_TEST_UNSET}, {$EVSTREAM_TEST_UNSET_2} are not set in the environment of this command, at "},
		{"cors {$EVSTREAM_TEST_SET}", "; if it was a {$NAME}, that is not set in the environment of this command, at "},
	} {
		text := ":80 {\n\tevstream /live/* {\n\t\t" + tt.line + "\n\t\tallow anyone subscribe **\n\t}\n}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("EVSTREAM_TEST_SET", " ")
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": file})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasSuffix(err.Error(), file+":3") {
			t.Errorf("%s: %v", tt.line, err)
		}
	}
}
