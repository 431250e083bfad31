package evstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

var (
	fenceOfCaddyfile = regexp.MustCompile("(?ms)^```caddyfile[^\n]*\n(.*?)^```$")
	siteOfFence      = regexp.MustCompile(`(?m)^(?:https?://)?([\w.*-]+)(?::\d+)? \{$`)
	guardInFront     = regexp.MustCompile(`(?m)^\s*(basic_auth|forward_auth)\b`)
	credentialsAsked = regexp.MustCompile(`(?m)^\s*(basic_auth|forward_auth|jwt|bearer|verify|caddy_auth)\b`)
)

// What a recipe of the documents guards is refused without credentials: reading
// everything, publishing and writing values, unless a rule says "anyone" and
// nothing stands in front.
func TestRecipesOfTheDocumentsRefuseWhoHasNoCredentials(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	t.Setenv("EVSTREAM_TOKEN", "a-secret-of-the-test")
	t.Setenv("EVSTREAM_JWT_KEY", "a secret of at least 32 bytes, for tests")
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized) // nobody is logged in
	}))
	t.Cleanup(application.Close)
	tried := make(map[string]int)
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, found := range fenceOfCaddyfile.FindAllSubmatch(text, -1) {
			fence := string(found[1])
			asked := credentialsAsked.FindAllString(fence, -1)
			if asked == nil || strings.Contains(fence, "adapter redis") {
				continue
			}
			for _, word := range asked {
				tried[strings.TrimSpace(word)]++
			}
			t.Run(fmt.Sprintf("%s/%d", page, i+1), func(t *testing.T) {
				refusesNobody(t, fence, strings.TrimPrefix(application.URL, "http://"))
			})
		}
	}
	for _, word := range []string{"basic_auth", "forward_auth", "jwt", "bearer", "verify", "caddy_auth"} {
		if tried[word] == 0 {
			t.Errorf("no recipe with %s was tried", word)
		}
	}
}

// refusesNobody runs a recipe and asks without credentials.
func refusesNobody(t *testing.T, fence, application string) {
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	var hosts []string
	for _, m := range siteOfFence.FindAllStringSubmatch(fence, -1) {
		hosts = append(hosts, strings.Replace(m[1], "*", "any", 1))
	}
	if hosts == nil {
		t.Fatal("the recipe has no site")
	}
	text := siteOfFence.ReplaceAllString(fence, "http://$1:"+port+" {")
	text = strings.NewReplacer("localhost:3000", application, "/etc/caddy/", "").Replace(text)
	config := strings.Replace(string(adapt(t, text)), "{", `{"admin":{"disabled":true,"config":{"persist":false}},`, 1)
	handlers, err := handlersOf([]byte(config))
	if err != nil || len(handlers) == 0 {
		t.Fatalf("%d handlers, %v", len(handlers), err)
	}
	load(t, options("")) // so that it is stopped
	if err := reloadJSON(t, []byte(config)); err != nil {
		t.Fatal(err)
	}
	front := guardInFront.MatchString(fence)
	for _, h := range handlers {
		for _, q := range []struct{ verb, method, path string }{
			{"subscribe", http.MethodGet, "/?channel=**"},
			{"subscribe", http.MethodGet, "?channel=**"},
			{"subscribe", http.MethodGet, "/?channel=**&poll=1&since=earliest"},
			{"subscribe", http.MethodGet, "/_channels"},
			{"publish", http.MethodPost, "/nobody/may/write"},
			{"state", http.MethodPut, "/nobody/may/write"},
		} {
			open := !front && slices.ContainsFunc(h.Allow, func(r AllowRule) bool {
				return r.Who == access.Anyone && slices.Contains(r.Channels, "**") && (slices.Contains(r.Do, q.verb) || slices.Contains(r.Do, "all"))
			})
			if open || q.path == "/_channels" && !front {
				continue // the list has the channels that the caller may read
			}
			refused := 0
			for _, host := range hosts {
				resp := askNobody(t, q.method, "http://"+address+h.Mount+q.path, host+":"+port)
				switch {
				case slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusFound}, resp.StatusCode),
					resp.StatusCode == http.StatusPermanentRedirect && q.path[0] == '?':
					refused++
				case resp.StatusCode == http.StatusOK && resp.ContentLength == 0 && len(hosts) > 1: // a site without this handler
				default:
					t.Errorf("%s %s%s of %s: status %d", q.method, h.Mount, q.path, host, resp.StatusCode)
				}
			}
			if refused == 0 {
				t.Errorf("%s %s%s: no site refuses it", q.method, h.Mount, q.path)
			}
		}
	}
}

// askNobody makes a request without credentials, and follows no redirect.
func askNobody(t *testing.T, method, url, host string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}
