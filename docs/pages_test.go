package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What each document shows is tried, see fences_test.go.

func TestReadmeIsTrue(t *testing.T)            { page(t, "README.md") }
func TestTheHTTPPageIsTrue(t *testing.T)       { page(t, "docs/http.md") }
func TestTheCaddyfilePageIsTrue(t *testing.T)  { page(t, "docs/caddyfile.md") }
func TestTheOperationsPageIsTrue(t *testing.T) { page(t, "docs/operations.md") }
func TestTheGoPageIsTrue(t *testing.T)         { page(t, "docs/go.md") }
func TestTheClientPageIsTrue(t *testing.T)     { page(t, "docs/client.md") }
func TestTheStatePageIsTrue(t *testing.T)      { page(t, "docs/state.md") }
func TestAccessPageIsTrue(t *testing.T)        { page(t, "docs/access.md") }
func TestClientsPageIsTrue(t *testing.T)       { page(t, "docs/clients.md") }
func TestTokensPageIsTrue(t *testing.T)        { page(t, "docs/tokens.md") }
func TestTheSessionsPageIsTrue(t *testing.T)   { page(t, "docs/sessions.md") }
func TestTheGRIPPageIsTrue(t *testing.T)       { page(t, "docs/grip.md") }
func TestTheTakeoverPageIsTrue(t *testing.T)   { page(t, "docs/takeover.md") }
func TestTheAIPageIsTrue(t *testing.T)         { page(t, "docs/ai.md") }
func TestTheRecordPageIsTrue(t *testing.T)     { page(t, "docs/record.md") }
func TestHooksPageIsTrue(t *testing.T)         { page(t, "docs/hooks.md") }
func TestTheBrowserPageIsTrue(t *testing.T)    { page(t, "docs/browser.md") }
func TestThePresencePageIsTrue(t *testing.T)   { page(t, "docs/presence.md") }
func TestTroubleshootingIsTrue(t *testing.T)   { page(t, "docs/troubleshooting.md") }

// TestEveryDocumentIsTried sees to it that a document that is added is, too.
func TestEveryDocumentIsTried(t *testing.T) {
	tried := []string{
		"README.md", "docs/access.md", "docs/ai.md", "docs/browser.md", "docs/caddyfile.md", "docs/client.md", "docs/clients.md", "docs/commands.md", "docs/console.md", "docs/go.md", "docs/grip.md", "docs/hooks.md", "docs/http.md", "docs/operations.md", "docs/presence.md", "docs/proxies.md", "docs/recipes.md", "docs/record.md", "docs/sessions.md", "docs/state.md", "docs/takeover.md", "docs/tokens.md", "docs/troubleshooting.md",
		"UPGRADE.md", "docs/cluster.md", "docs/deploy.md", "docs/doctor.md", "docs/durability.md", "docs/performance.md", "xcaddy.md", // by tests of their own
	}
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range openings(string(text)) {
			if f != "" && !slices.Contains(tried, file) {
				t.Errorf("%s: nobody tries fence %d, of %s", file, i+1, f)
			}
		}
	}
}

// documents are all pages of this repository.
func documents(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no pages, %v", pattern, err)
		}
		list = append(list, found...)
	}
	return list
}

// openings are the languages of a page's fences, "" where there is none.
func openings(text string) (list []string) {
	open := false
	for line := range strings.Lines(text) {
		if lang, mark := strings.CutPrefix(strings.TrimSpace(line), "```"); mark {
			if open = !open; open {
				list = append(list, lang)
			}
		}
	}
	return list
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
		allow anyone subscribe public/** match.*
		allow user subscribe users/{user}/**
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

// buildFlags are those that this test was built with, so that little has to be
// compiled anew.
var buildFlags = []string{"build", "-mod=mod", "-ldflags=-s -w"}

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
	cmd := exec.CommandContext(t.Context(), "go", append(buildFlags, "-o", binary, ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}
