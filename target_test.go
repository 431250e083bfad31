package evstream

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestTargetOfAPath(t *testing.T) {
	for _, tt := range []struct {
		name, mount, path string
		kind              targetKind
		want              string
	}{
		{"a channel", "/live", "/live/match.7", targetChannel, "match.7"},
		{"segments", "/live", "/live/football/arsenal-vs-chelsea", targetChannel, "football/arsenal-vs-chelsea"},
		{"a mount of two segments", "/api/live", "/api/live/a/b", targetChannel, "a/b"},
		{"no mount", "", "/a/b", targetChannel, "a/b"},
		{"the mount itself", "/live", "/live", targetMount, ""},
		{"the mount with a slash", "/live", "/live/", targetMount, ""},
		{"the root", "", "/", targetMount, ""},
		{"beneath", "/live", "/live/football/", targetBeneath, "football/"},
		{"the mount in another case", "/live", "/LIVE/Match.7", targetChannel, "Match.7"},
		{"a mount in upper case", "/Live", "/live/a", targetChannel, "a"},
		{"the mount percent-encoded", "/live", "/%6Cive/a", targetChannel, "a"},
		{"decoded", "/live", "/live/a%3Ab%26c", targetChannel, "a:b&c"},
		{"decoded once", "/live", "/live/a%2541", targetChannel, "a%41"},
		{"a name that is none is told later", "/live", "/live/a%20b", targetChannel, "a b"},
		{"a pattern", "/live", "/live/a/**", targetChannel, "a/**"},
		{"an escape that needs none", "/live", "/live/%61%2Eb", targetChannel, "a.b"},
		{"_publish", "/live", "/live/_publish", targetPublish, "_publish"},
		{"_publish encoded", "/live", "/live/%5Fpublish", targetPublish, "_publish"},
		{"_channels", "/live", "/live/_channels", targetChannels, "_channels"},
		{"an underscore further on", "/live", "/live/a/_b", targetChannel, "a/_b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ours, err := parseTarget(tt.mount, parseURL(t, tt.path))
			if !ours || err != nil {
				t.Fatalf("ours %v, %v", ours, err)
			}
			if got.kind != tt.kind || got.name != tt.want {
				t.Errorf("got %d %q, want %d %q", got.kind, got.name, tt.kind, tt.want)
			}
		})
	}
}

func TestPathsOutsideOfTheMountAreNotOurs(t *testing.T) {
	for _, path := range []string{
		"/", "/other", "/livestock", "/liv", "/live/../other", "/live/a/%2E%2E/%2E%2E/other",
		"/live%2F..%2Fother", "/x/live/a", "*",
	} {
		if _, ours, err := parseTarget("/live", parseURL(t, path)); ours || err != nil {
			t.Errorf("%s: ours %v, %v", path, ours, err)
		}
	}
}

func TestPathsThatAreReadInTwoWaysAreRefused(t *testing.T) {
	for _, path := range []string{
		"//live/a", "/live//a", "/live/a//b", "/live/a//", "/live//",
		"/live/./a", "/live/a/.", "/live/a/../b", "/live/a/%2e%2e/b", "/live/%2e/a",
		"/live/a%2Fb", "/live/a%2fb", "/live%2Fa", "/live/%2F", "/x/../live/a", "/live/a/..%2Fb",
	} {
		_, ours, err := parseTarget("/live", parseURL(t, path))
		if !ours || err == nil || problemOf(err).kind != badPath {
			t.Errorf("%s: ours %v, %v", path, ours, err)
		}
	}
}

func TestNamesOfTheHubAreNotFound(t *testing.T) {
	for _, path := range []string{"/live/_sessions/x", "/live/_", "/live/_publish/", "/live/_channels/a", "/live/_openapi.json"} {
		_, ours, err := parseTarget("/live", parseURL(t, path))
		if !ours || err == nil || problemOf(err).kind != notFound {
			t.Errorf("%s: ours %v, %v", path, ours, err)
		}
	}
}

// After handle_path, Caddy has stripped and cleaned the path.
func TestTargetAfterHandlePath(t *testing.T) {
	u := parseURL(t, "/live/a%3Ab")
	u.Path, u.RawPath = "/a:b", "/a%3Ab"
	if got, ours, err := parseTarget("", u); !ours || err != nil || got.name != "a:b" {
		t.Errorf("got %q, %v, %v", got.name, ours, err)
	}
	u.Path, u.RawPath = "/c:d", "/stale" // rewritten since
	if got, ours, err := parseTarget("", u); !ours || err != nil || got.name != "c:d" {
		t.Errorf("got %q, %v, %v", got.name, ours, err)
	}
}

func TestTargetOfAPlainPathAllocatesNothing(t *testing.T) {
	u := parseURL(t, "/live/football/arsenal-vs-chelsea")
	if n := testing.AllocsPerRun(100, func() { _, _, _ = parseTarget("/live", u) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzTarget(f *testing.F) {
	for _, path := range []string{"/live/a", "/LIVE/a/b/", "/live//a", "/live/a%2Fb", "/live/../x", "/live/%5Fpublish", "/live", "/live/%61"} {
		f.Add("/live", path)
		f.Add("", path)
	}
	f.Fuzz(func(t *testing.T, mount, path string) {
		if mount != "" && (mount[0] != '/' || mount != caddyhttp.CleanPath(mount, true) || strings.HasSuffix(mount, "/")) {
			return
		}
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			return
		}
		got, ours, err := parseTarget(mount, u)
		cleaned := caddyhttp.CleanPath(strings.ToLower(u.Path), true)
		within := strings.HasPrefix(u.Path, "/") &&
			(cleaned == strings.ToLower(mount) || strings.HasPrefix(cleaned, strings.ToLower(mount)+"/"))
		if ours != within {
			t.Fatalf("ours %v, but Caddy's comparison says %v", ours, within)
		}
		if !ours || err != nil || got.name == "" {
			return
		}
		// What is accepted is what the path says, beneath the mount, and no
		// cleaning changes it.
		if !strings.EqualFold(u.Path, mount+"/"+got.name) {
			t.Fatalf("%q beneath %q became %q", u.Path, mount, got.name)
		}
		if clean := caddyhttp.CleanPath("/"+got.name, true); clean != "/"+got.name {
			t.Fatalf("%q would be cleaned to %q", got.name, clean)
		}
	})
}

func parseURL(t *testing.T, path string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
