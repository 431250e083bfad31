// Package floors tests that each package imports only packages below it, and
// that none below the root has mutable state.
package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/evstream/caddy-evstream"

// floor says what the packages in a directory, and beneath it, may import beside
// the standard library. Their tests may also import other modules, except Caddy.
type floor struct {
	dir    string
	ours   []string // directories of this module, and what is beneath them
	tests  []string // such directories that only the tests import
	others []string // modules, and what is in them
	never  []string // packages of the standard library that must not be in Deps
	but    []string // directories beneath dir for which only rows of their own hold
}

// floors is the table of the rooms, from the bottom to the top. A package of this
// module must be in one of them, the root or aboveRoot.
var floors = []floor{
	{dir: "sse", never: []string{"net/http"}},
	{dir: "channel", never: []string{"net/http"}},
	{dir: "problem", tests: []string{"internal/errkind"}, never: []string{"net/http"}},

	{dir: "internal/accept"},
	{dir: "internal/backlog", never: []string{"net/http"}},
	{dir: "internal/duration"},
	{dir: "internal/fingerprint", never: []string{"net/http"}},
	{dir: "internal/histogram", never: []string{"net/http"}},
	{dir: "internal/errkind", never: []string{"net/http"}},
	{dir: "internal/jsonvalue", ours: []string{"internal/errkind"}, never: []string{"net/http"}},
	{dir: "internal/nearest", never: []string{"net/http"}},
	{dir: "internal/query"},
	{dir: "internal/ratelimit"},
	{dir: "internal/resp"},
	{dir: "internal/safehttp"},
	{dir: "internal/tcpsock", others: []string{"golang.org/x/sys"}, never: []string{"net/http"}},
	{dir: "internal/parked", ours: []string{"internal/tcpsock"}, tests: []string{"internal/leaktest", "internal/mutation"}, never: []string{"net/http"}},
	{dir: "internal/ttlmap"},

	// Only tests import these.
	{dir: "internal/floors"},
	{dir: "internal/authtest", others: []string{"github.com/golang-jwt/jwt", "github.com/go-jose/go-jose"}},
	{dir: "internal/leaktest", others: []string{"go.uber.org/goleak"}},
	{dir: "internal/mutation"},
	{dir: "internal/nettest"},
	{dir: "internal/redistest", tests: []string{"internal/leaktest"}, others: []string{"github.com/redis/go-redis", "golang.org/x/sys"}},

	{dir: "h2front", but: []string{"h2front/hook"}, ours: []string{"internal/tcpsock"}, tests: []string{"internal/leaktest"}, others: []string{"golang.org/x/net/http2/hpack", "golang.org/x/sys"}, never: []string{"net/http"}},
	{dir: "h2front/hook", ours: []string{"h2front"}, tests: []string{"internal/leaktest"}, others: []string{"golang.org/x/net"}},

	{dir: "broker", ours: []string{"sse", "channel", "internal/errkind", "internal/histogram", "internal/jsonvalue"}, tests: []string{"internal/leaktest", "internal/mutation"}, never: []string{"net/http"}},
	{dir: "state", ours: []string{"sse", "channel", "broker"}, tests: []string{"internal/leaktest"}},
	{dir: "stream", ours: []string{"sse", "channel", "broker", "h2front", "internal/errkind", "internal/histogram", "internal/parked", "internal/tcpsock"}, tests: []string{"internal/leaktest", "internal/mutation", "internal/nettest"}, others: []string{"golang.org/x/sys"}},
	{dir: "h3stream", ours: []string{"stream"}, tests: []string{"sse", "broker"}, others: []string{"github.com/quic-go/quic-go"}},
	{dir: "boltadapter", ours: []string{"sse", "broker", "internal/backlog", "internal/errkind"}, tests: []string{"internal/leaktest"}, others: []string{"go.etcd.io/bbolt"}},
	{dir: "broker/codec", ours: []string{"sse", "broker"}, never: []string{"net", "crypto/tls"}},
	{dir: "runs", ours: []string{"sse", "broker", "internal/errkind"}, tests: []string{"internal/leaktest"}, never: []string{"net/http"}},
	{dir: "presence", ours: []string{"sse", "channel", "internal/jsonvalue"}, never: []string{"net/http"}},
	{dir: "redisadapter/internal/entry", ours: []string{"sse", "broker", "internal/resp"}, never: []string{"net", "crypto/tls"}},
	{dir: "redisadapter", ours: []string{"sse", "broker", "internal/backlog", "internal/errkind", "internal/resp"}, tests: []string{"internal/leaktest", "internal/redistest"}, others: []string{"github.com/redis/go-redis"}},

	{dir: "access", ours: []string{"sse", "channel", "problem", "internal/errkind", "internal/nearest"}},
	{
		dir:    "auth",
		ours:   []string{"sse", "access", "problem", "internal/errkind", "internal/query", "internal/safehttp", "internal/ttlmap"},
		tests:  []string{"channel", "internal/authtest"},
		others: []string{"github.com/go-jose/go-jose", "golang.org/x/crypto", "golang.org/x/sync"},
	},
	{
		dir:    "hub",
		ours:   []string{"sse", "channel", "broker", "stream", "presence", "runs", "access", "problem", "internal/errkind", "internal/jsonvalue", "internal/ratelimit", "internal/ttlmap"},
		tests:  []string{"redisadapter", "internal/leaktest", "internal/nettest", "internal/redistest"},
		others: []string{"github.com/santhosh-tekuri/jsonschema", "golang.org/x/text"},
	},
	{dir: "httpapi/internal/bodies", ours: []string{"sse", "problem"}},
	{dir: "browser", never: []string{"net/http"}},
	{dir: "httpapi/internal/files", ours: []string{"browser"}},
	{dir: "httpapi/internal/paths", ours: []string{"problem"}, never: []string{"net/http"}},
	{dir: "httpapi/internal/jsonbody", ours: []string{"problem", "internal/jsonvalue"}, never: []string{"net/http"}},
	{dir: "takeover/grip", ours: []string{"sse", "channel", "broker", "stream", "access", "auth", "hub", "httpapi", "problem", "takeover", "takeover/internal/answers", "internal/ttlmap"}, tests: []string{"internal/leaktest"}},
	{dir: "takeover/internal/answers"},
	{dir: "takeover", ours: []string{"takeover/internal/answers", "sse", "channel", "broker", "stream", "presence", "runs", "access", "auth", "hub", "httpapi", "problem", "internal/errkind", "internal/jsonvalue", "internal/ttlmap"}, tests: []string{"internal/leaktest"}},
	{
		dir: "client", ours: []string{"sse", "internal/jsonvalue"},
		tests: []string{"broker", "presence", "access", "auth", "hub", "httpapi", "internal/leaktest"},
	},
	{
		dir: "cli", but: []string{"cli/bench", "cli/token", "cli/logs"}, ours: []string{"client", "sse"}, others: []string{"github.com/spf13/cobra"},
		tests: []string{"broker", "presence", "access", "auth", "hub", "httpapi"},
	},
	{dir: "console", ours: []string{"internal/histogram", "broker", "access", "hub", "httpapi", "problem"}, tests: []string{"sse"}},
	{dir: "hooks", ours: []string{"channel", "broker", "hub", "internal/nearest", "internal/safehttp"}, tests: []string{"stream", "access"}},
	{dir: "cli/bench", ours: []string{"cli", "cli/internal"}, others: []string{"github.com/spf13/cobra", "golang.org/x/sys"}},
	{dir: "cli/doctor", ours: []string{"sse", "cli", "cli/internal"}, others: []string{"github.com/spf13/cobra"}},
	{dir: "cli/token", ours: []string{"cli", "access", "auth"}, others: []string{"github.com/spf13/cobra"}},
	{dir: "cli/logs", ours: []string{"cli", "boltadapter"}, others: []string{"github.com/spf13/cobra", "github.com/dustin/go-humanize"}},
	{dir: "httpapi/internal/members", ours: []string{"channel", "presence", "problem"}, never: []string{"net/http"}},
	{dir: "httpapi/internal/audience", ours: []string{"sse", "channel", "broker", "stream", "problem", "internal/errkind", "internal/jsonvalue"}},
	{dir: "httpapi/internal/origins", ours: []string{"access", "auth", "problem"}},
	{dir: "httpapi/internal/preconditions", ours: []string{"broker", "problem"}},
	{dir: "httpapi/internal/sessions", ours: []string{"sse", "broker", "stream", "access", "hub", "problem", "internal/query"}},
	{dir: "httpapi/internal/starts", ours: []string{"sse", "broker", "problem", "internal/duration", "internal/query"}},
	{
		dir: "httpapi",
		ours: []string{
			"sse", "channel", "broker", "h2front", "stream", "presence", "runs", "access", "auth", "hub", "problem",
			"browser", "internal/accept", "internal/duration", "internal/errkind", "internal/jsonvalue", "internal/query",
		},
		tests: []string{"redisadapter", "internal/authtest", "internal/nettest", "internal/redistest"},
	},
}

// aboveRoot are the directories whose packages may import the root.
var aboveRoot = []string{"cmd", "examples", "bench", "e2e", "deploy", "docs"}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func TestNoImportClimbsOrGoesSideways(t *testing.T) {
	root := filepath.Join("..", "..")
	watch(t, root)

	pkgs := list(t, root, "./...")
	known := map[string]bool{}
	for _, p := range pkgs {
		known[p.ImportPath] = true
		for _, breach := range breaches(p) {
			t.Error(breach)
		}
	}
	for _, dir := range []string{"sse", "broker", "access", "auth", "hub", "httpapi"} {
		if !known[module+"/"+dir] {
			t.Errorf("%s is not among the packages of the module", dir)
		}
	}
}

// TestBreachesAreFound tests breaches.
func TestBreachesAreFound(t *testing.T) {
	ours := func(dirs ...string) []string {
		for i, dir := range dirs {
			dirs[i] = strings.TrimSuffix(module+"/"+dir, "/")
		}
		return dirs
	}
	for _, tt := range []struct {
		name string
		pkg  pkg
		bad  bool
	}{
		{"sse imports the standard library", pkg{ImportPath: module + "/sse", Imports: []string{"io", "unicode/utf8"}}, false},
		{"sse imports broker", pkg{ImportPath: module + "/sse", Imports: ours("broker")}, true},
		{"sse imports a module", pkg{ImportPath: module + "/sse", Imports: []string{"golang.org/x/text/width"}}, true},
		{"a test of sse imports broker", pkg{ImportPath: module + "/sse", XTestImports: ours("broker")}, true},
		{"broker imports sse", pkg{ImportPath: module + "/broker", Imports: ours("sse")}, false},
		{"broker imports what only sounds like sse", pkg{ImportPath: module + "/broker", Imports: ours("sse2")}, true},
		{"broker imports stream", pkg{ImportPath: module + "/broker", Imports: ours("stream")}, true},
		{"a test of sse imports Caddy", pkg{ImportPath: module + "/sse", TestImports: []string{"github.com/caddyserver/caddy/v2"}}, true},
		{"a test of broker imports its contract", pkg{ImportPath: module + "/broker", TestImports: ours("broker/logtest")}, false},
		{"the contract imports broker", pkg{ImportPath: module + "/broker/logtest", Imports: ours("broker", "sse")}, false},
		{"redisadapter imports what is beneath it", pkg{ImportPath: module + "/redisadapter", Imports: ours("redisadapter/internal/entry")}, false},
		{"what is beneath redisadapter imports it", pkg{ImportPath: module + "/redisadapter/internal/entry", Imports: ours("redisadapter")}, true},
		{"what is beneath redisadapter imports its client", pkg{ImportPath: module + "/redisadapter/internal/entry", Imports: []string{"github.com/redis/go-redis/v9"}}, true},
		{"hub imports httpapi", pkg{ImportPath: module + "/hub", Imports: ours("httpapi")}, true},
		{"auth imports hub", pkg{ImportPath: module + "/auth", Imports: ours("hub")}, true},
		{"httpapi imports everything below it", pkg{ImportPath: module + "/httpapi", Imports: ours("auth", "hub", "access", "stream", "broker", "problem")}, false},
		{"a test of httpapi imports Caddy", pkg{ImportPath: module + "/httpapi", TestImports: []string{"github.com/caddyserver/caddy/v2"}}, true},
		{"problem imports broker", pkg{ImportPath: module + "/problem", Imports: ours("broker")}, true},
		{"a leaf imports a room", pkg{ImportPath: module + "/internal/ttlmap", Imports: ours("hub")}, true},
		{"a package has no row", pkg{ImportPath: module + "/lobby", Imports: []string{"io"}}, true},
		{"broker imports net/http", pkg{ImportPath: module + "/broker", Imports: []string{"net/http"}, Deps: []string{"net/http"}}, true},
		{"broker gets net/http through another package", pkg{ImportPath: module + "/broker", Imports: []string{"expvar"}, Deps: []string{"net/http"}}, true},
		{"stream imports net/http", pkg{ImportPath: module + "/stream", Imports: []string{"net/http"}, Deps: []string{"net/http"}}, false},
		{"stream imports Caddy", pkg{ImportPath: module + "/stream", Imports: []string{"github.com/caddyserver/caddy/v2"}}, true},
		{"stream gets Caddy through another package", pkg{ImportPath: module + "/stream", Deps: []string{"github.com/caddyserver/caddy/v2"}}, true},
		{"a test of stream has a deaf client", pkg{ImportPath: module + "/stream", TestImports: ours("internal/nettest")}, false},
		{"stream imports the root", pkg{ImportPath: module + "/stream", Imports: ours("")}, true},
		{"state imports stream", pkg{ImportPath: module + "/state", Imports: ours("stream")}, true},
		{"redisadapter imports its client", pkg{ImportPath: module + "/redisadapter", Imports: []string{"github.com/redis/go-redis/v9"}}, false},
		{"a test of redisadapter starts servers", pkg{ImportPath: module + "/redisadapter", TestImports: ours("internal/redistest")}, false},
		{"redisadapter starts servers", pkg{ImportPath: module + "/redisadapter", Imports: ours("internal/redistest")}, true},
		{"a test of broker starts servers", pkg{ImportPath: module + "/broker", XTestImports: ours("internal/redistest")}, true},
		{"boltadapter imports the client of another", pkg{ImportPath: module + "/boltadapter", Imports: []string{"github.com/redis/go-redis/v9"}}, true},
		{"the root imports everything", pkg{ImportPath: module, Imports: append(ours("sse", "stream", "state"), "github.com/caddyserver/caddy/v2")}, false},
		{"the command imports the root", pkg{ImportPath: module + "/cmd/caddy", Imports: ours("")}, false},
		{"a new package imports the root", pkg{ImportPath: module + "/lobby", Imports: ours("")}, true},
		{"an end-to-end test imports the root", pkg{ImportPath: module + "/e2e", XTestImports: ours("")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := breaches(tt.pkg); (len(got) > 0) != tt.bad {
				t.Errorf("got %q", got)
			}
		})
	}
}

// breaches lists the imports of p that the table does not allow.
func breaches(p pkg) []string {
	var found []string
	dir, ok := strings.CutPrefix(p.ImportPath, module+"/")
	if !ok {
		return nil // the root
	}
	if slices.Contains(p.Imports, module) && !within(dir, aboveRoot) {
		found = append(found, dir+" imports the root")
	}
	in := 0
	for _, f := range floors {
		if !within(dir, []string{f.dir}) || within(dir, f.but) {
			continue
		}
		in++
		for i, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			allowed := append(slices.Clone(f.ours), f.dir)
			if i >= len(p.Imports) {
				allowed = append(allowed, f.tests...)
			}
			if path == module {
				found = append(found, dir+" imports the root, as a test or not")
			} else if ours, ok := strings.CutPrefix(path, module+"/"); ok && !within(ours, allowed) {
				found = append(found, dir+" imports "+ours)
			} else if strings.HasPrefix(path, "github.com/caddyserver/") {
				found = append(found, dir+" imports Caddy, as a test or not")
			}
		}
		for _, path := range p.Imports {
			if !standard(path) && !within(path, append(f.others, module)) {
				found = append(found, dir+" imports "+path)
			}
		}
		for _, path := range p.Deps {
			if strings.HasPrefix(path, "github.com/caddyserver/") {
				found = append(found, dir+" depends on Caddy")
				break
			}
		}
		for _, path := range f.never {
			if slices.Contains(p.Deps, path) {
				found = append(found, dir+" depends on "+path)
			}
		}
	}
	if in == 0 && !within(dir, aboveRoot) {
		found = append(found, dir+" is in no room: the table has no row for it")
	}
	return found
}

// within reports whether path is one of dirs or beneath one.
func within(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	})
}

// standard reports whether path is in the standard library: only then its first
// element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// list runs `go list -json`, with -e: it must not fail because a package does not
// build.
func list(t *testing.T, dir, pattern string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", pattern)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return pkgs
		case err != nil:
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// watch reads every directory, so that go test does not reuse an old result: it
// notices changes only of what the test itself has read, and not of what `go
// list` has.
func watch(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
