package evstream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/browser"
)

// The client for pages is served to everybody: it needs no rule, no credential and no
// origin, and no channel has its name.
func TestTheClientIsServedToEverybody(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withCORS("https://app.example"), func(c *siteConfig) {
			c.handler.Allow = rulesOf("backend all **")
		})
		get := request{"GET", "/live/_client.js?v=1", []string{"Origin: https://other.example"}, ""}
		resp := ask(t, e, get)
		if body := bodyOf(t, resp); resp.StatusCode != http.StatusOK || body != strings.TrimSpace(browser.Client()) {
			t.Fatalf("%s, %d bytes", resp.Status, len(body))
		}
		for name, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Access-Control-Allow-Origin": "*",
			"Cache-Control": "public, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin",
			"X-Content-Type-Options": "nosniff",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		tag := resp.Header.Get("ETag")
		if resp := ask(t, e, request{"GET", "/live/_client.js", []string{"If-None-Match: " + tag}, ""}); tag == "" || resp.StatusCode != http.StatusNotModified {
			t.Errorf("with the tag %q: %s", tag, resp.Status)
		}
		if resp := ask(t, e, request{"HEAD", "/live/_client.js", nil, ""}); resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") != tag {
			t.Errorf("HEAD: %s", resp.Status)
		}
		known := ask(t, e, request{"GET", "/live/_client.js", []string{"Origin: https://app.example"}, ""})
		if got := known.Header.Get("Access-Control-Allow-Credentials"); got != "true" {
			t.Errorf("a page of an origin that may call with credentials may not load it with them: %q", got)
		}
		if resp := ask(t, e, request{"GET", "/live/_client.d.ts", nil, ""}); bodyOf(t, resp) != strings.TrimSpace(browser.Types()) {
			t.Errorf("the types: %s", resp.Status)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			resp := ask(t, e, request{method, "/live/_client.js", []string{"Authorization: Bearer " + backendSecret}, "x"})
			if allow := resp.Header.Get("Allow"); allow != "GET, HEAD, OPTIONS" {
				t.Errorf("%s: Allow is %q", method, allow)
			}
			wantProblem(t, resp, 405, "bad-method")
		}
		if resp := ask(t, e, request{"GET", "/live/_clients.js", nil, ""}); resp.StatusCode != http.StatusNotFound || !strings.Contains(bodyOf(t, resp), "_client.js") {
			t.Errorf("of a name that is none: %s", resp.Status)
		}
	})
}
