package httpapi

import (
	"net/url"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/httpapi/internal/paths"
	"github.com/evstream/caddy-evstream/problem"
)

func TestResourceOfAPath(t *testing.T) {
	for _, tt := range []struct {
		name, mount, path string
		kind              resourceKind
		want              string
	}{
		{"a channel", "/live", "/live/match.7", resourceChannel, "match.7"},
		{"segments", "/live", "/live/football/arsenal-vs-chelsea", resourceChannel, "football/arsenal-vs-chelsea"},
		{"a mount of two segments", "/api/live", "/api/live/a/b", resourceChannel, "a/b"},
		{"no mount", "", "/a/b", resourceChannel, "a/b"},
		{"the mount without its slash", "/live", "/live", resourceBare, ""},
		{"the same percent-encoded", "/live", "/%4CIVE", resourceBare, ""},
		{"the mount with a slash", "/live", "/live/", resourceMount, ""},
		{"the root", "", "/", resourceMount, ""},
		{"beneath", "/live", "/live/football/", resourceBeneath, "football/"},
		{"the mount in another case", "/live", "/LIVE/Match.7", resourceChannel, "Match.7"},
		{"a mount in upper case", "/Live", "/live/a", resourceChannel, "a"},
		{"the mount percent-encoded", "/live", "/%6Cive/a", resourceChannel, "a"},
		{"decoded", "/live", "/live/a%3Ab%26c", resourceChannel, "a:b&c"},
		{"decoded once", "/live", "/live/a%2541", resourceChannel, "a%41"},
		{"a name that is none is told later", "/live", "/live/a%20b", resourceChannel, "a b"},
		{"a pattern", "/live", "/live/a/**", resourceChannel, "a/**"},
		{"an escape that needs none", "/live", "/live/%61%2Eb", resourceChannel, "a.b"},
		{"_publish", "/live", "/live/_publish", resourcePublish, "_publish"},
		{"_publish encoded", "/live", "/live/%5Fpublish", resourcePublish, "_publish"},
		{"_channels", "/live", "/live/_channels", resourceChannels, "_channels"},
		{"an underscore further on", "/live", "/live/a/_b", resourceChannel, "a/_b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ours, err := parseResource(tt.mount, parseURL(t, tt.path))
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
		if _, ours, err := parseResource("/live", parseURL(t, path)); ours || err != nil {
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
		_, ours, err := parseResource("/live", parseURL(t, path))
		if !ours || err == nil || problem.Of(err).Kind != problem.BadPath {
			t.Errorf("%s: ours %v, %v", path, ours, err)
		}
	}
}

func TestNamesOfTheHubAreNotFound(t *testing.T) {
	for _, path := range []string{"/live/_sessionsx", "/live/_", "/live/_publish/", "/live/_channels/a", "/live/_openapi"} {
		_, ours, err := parseResource("/live", parseURL(t, path))
		if !ours || err == nil || problem.Of(err).Kind != problem.NotFound {
			t.Errorf("%s: ours %v, %v", path, ours, err)
		}
	}
}

// After handle_path, Caddy has stripped and cleaned the path.
func TestResourceAfterHandlePath(t *testing.T) {
	u := parseURL(t, "/live/a%3Ab")
	u.Path, u.RawPath = "/a:b", "/a%3Ab"
	if got, ours, err := parseResource("", u); !ours || err != nil || got.name != "a:b" {
		t.Errorf("got %q, %v, %v", got.name, ours, err)
	}
	u.Path, u.RawPath = "/c:d", "/stale" // rewritten since
	if got, ours, err := parseResource("", u); !ours || err != nil || got.name != "c:d" {
		t.Errorf("got %q, %v, %v", got.name, ours, err)
	}
}

func TestResourceOfAPlainPathAllocatesNothing(t *testing.T) {
	u := parseURL(t, "/live/football/arsenal-vs-chelsea")
	if n := testing.AllocsPerRun(100, func() { _, _, _ = parseResource("/live", u) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// That paths are cleaned and compared as Caddy does is tested by the root package.
func FuzzResource(f *testing.F) {
	for _, path := range []string{"/live/a", "/LIVE/a/b/", "/live//a", "/live/a%2Fb", "/live/../x", "/live/%5Fpublish", "/live", "/live/%61"} {
		f.Add("/live", path)
		f.Add("", path)
	}
	f.Fuzz(func(t *testing.T, mount, path string) {
		if mount != "" && (mount[0] != '/' || mount != paths.Clean(mount) || strings.HasSuffix(mount, "/")) {
			return
		}
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			return
		}
		got, ours, err := parseResource(mount, u)
		cleaned := paths.Clean(strings.ToLower(u.Path))
		within := strings.HasPrefix(u.Path, "/") &&
			(cleaned == strings.ToLower(mount) || strings.HasPrefix(cleaned, strings.ToLower(mount)+"/"))
		if ours != within {
			t.Fatalf("ours %v, but a comparison of cleaned paths says %v", ours, within)
		}
		if !ours || err != nil || got.name == "" {
			return
		}
		// What is accepted is what the path says, beneath the mount, and no
		// cleaning changes it.
		if !strings.EqualFold(u.Path, mount+"/"+got.name) {
			t.Fatalf("%q beneath %q became %q", u.Path, mount, got.name)
		}
		if clean := paths.Clean("/" + got.name); clean != "/"+got.name {
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
