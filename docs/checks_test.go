package docs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/evstream/caddy-evstream/hooks"
)

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

// known fails the test on a command that nobody has looked at, or that names a
// file of this repository which is not there.
func known(t *testing.T, f fence) {
	t.Helper()
	for line := range strings.Lines(f.text) {
		words := strings.Fields(line)
		switch words[0] {
		case "go", "make", "xcaddy", "docker", "./caddy", "echo":
		default:
			t.Errorf("%s: %q is a command that the tests of documents do not know", f, words[0])
		}
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "./") && !strings.HasPrefix(word, "examples/") {
				continue
			}
			if _, err := os.Stat(word); err != nil {
				t.Errorf("%s: %v", f, err)
			}
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

// compiled fails the test if the code is not part of an example, which is
// compiled, and run where it says what it prints.
func compiled(t *testing.T, f fence) {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*/example_test.go", "examples/*/*.go", "docs/go_test.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no examples, %v", pattern, err)
		}
		files = append(files, found...)
	}
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
	for _, w := range warnings { // also where "caddy fmt" would change it
		t.Errorf("%s: %s", f, w)
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

// program finds a fence in the files of the examples, and of the tests of clients.
func program(t *testing.T, f fence) {
	t.Helper()
	for _, pattern := range []string{"examples/*/*.mjs", "examples/*/*.jsx", "clients/other/*.mjs"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no programs %s: %v", pattern, err)
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && strings.Contains("\n"+string(text), "\n"+f.text) {
				return
			}
		}
	}
	t.Errorf("%s: no file of the examples has this", f)
}

// payload fails the test unless a fence is what a hook gets.
func payload(t *testing.T, f fence) {
	t.Helper()
	var body struct {
		Type      string     `json:"type"`
		Timestamp time.Time  `json:"timestamp"`
		Data      hooks.Data `json:"data"`
	}
	if err := json.Unmarshal([]byte(f.text), &body); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if got := compact(string(again)); got != compact(f.text) {
		t.Errorf("%s: a hook would get %s", f, got)
	}
	if !slices.Contains(hooks.Events(), strings.TrimPrefix(body.Type, hooks.TypePrefix)) {
		t.Errorf("%s: there is no event %s", f, body.Type)
	}
}
