package evstream

import (
	"net/http"
	"slices"
	"testing"
)

// withCORS configures origins.
func withCORS(origins ...string) func(*siteConfig) {
	return func(c *siteConfig) { c.handler.CORS = origins }
}

func TestAnswersToOtherOrigins(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name            string
			origins         []string
			origin          string
			allow, withCred string
			vary            bool
		}{
			{"an exact origin", []string{"https://app.example"}, "https://app.example", "https://app.example", "true", true},
			{"as browsers spell it", []string{"HTTPS://App.Example:443"}, "https://app.example", "https://app.example", "true", true},
			{"a port of its own", []string{"http://localhost:5173"}, "http://localhost:5173", "http://localhost:5173", "true", true},
			{"another origin", []string{"https://app.example"}, "https://evil.example", "", "", true},
			{"another scheme", []string{"https://app.example"}, "http://app.example", "", "", true},
			{"a longer name", []string{"https://app.example"}, "https://app.example.evil", "", "", true},
			{"any", []string{"*"}, "https://evil.example", "*", "", true},
			{"any, and an exact one", []string{"*", "https://app.example"}, "https://app.example", "https://app.example", "true", true},
			{"below a pattern", []string{"https://*.app.example"}, "https://a.app.example", "https://a.app.example", "", true},
			{"far below a pattern", []string{"https://*.App.example:443"}, "https://a.b-2.app.example", "https://a.b-2.app.example", "", true},
			{"a pattern with a port", []string{"https://*.app.example:8443"}, "https://a.app.example:8443", "https://a.app.example:8443", "", true},
			{"another port than the pattern's", []string{"https://*.app.example"}, "https://a.app.example:8443", "", "", true},
			{"a pattern is not what it is below", []string{"https://*.app.example"}, "https://app.example", "", "", true},
			{"nor a longer name", []string{"https://*.app.example"}, "https://evilapp.example", "", "", true},
			{"nor beyond it", []string{"https://*.app.example"}, "https://a.app.example.evil", "", "", true},
			{"nor another scheme", []string{"https://*.app.example"}, "http://a.app.example", "", "", true},
			{"nor what is no host", []string{"https://*.app.example"}, "https://evil.example/.app.example", "", "", true},
			{"nor a user's name", []string{"https://*.app.example"}, "https://evil@a.app.example", "", "", true},
			{"nor an empty label", []string{"https://*.app.example"}, "https://..app.example", "", "", true},
			{"nor an empty first label", []string{"https://*.app.example"}, "https://.a.app.example", "", "", true},
			{"nor an empty label within", []string{"https://*.app.example"}, "https://a..b.app.example", "", "", true},
			{"a pattern, and an exact one", []string{"https://*.app.example", "https://a.app.example"}, "https://a.app.example", "https://a.app.example", "true", true},
			{"pages without an origin", []string{"null"}, "null", "null", "", true},
			{"any port of this machine", []string{"http://localhost:*"}, "http://localhost:5173", "http://localhost:5173", "", true},
			{"nor another machine's", []string{"http://localhost:*"}, "http://app.example:5173", "", "", true},
			{"null is no origin", []string{"https://app.example"}, "null", "", "", true},
			{"no origin", []string{"https://app.example"}, "", "", "", true},
			{"none configured", nil, "https://app.example", "", "", false},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t, withCORS(tt.origins...))
				var header []string
				if tt.origin != "" {
					header = append(header, "Origin: "+tt.origin)
				}
				for name, q := range map[string]request{
					"an answer":  {"GET", "/live/public/a?poll=1", append(header, "Accept: application/json"), ""},
					"an error":   {"GET", "/live/secret", header, ""},
					"a bad path": {"GET", "/live/a//b", header, ""},
					"no method":  {"PUT", "/live/a", header, ""},
				} {
					h := ask(t, e, q).Header
					if got := h.Get("Access-Control-Allow-Origin"); got != tt.allow {
						t.Errorf("%s: Allow-Origin %q, want %q", name, got, tt.allow)
					}
					if got := h.Get("Access-Control-Allow-Credentials"); got != tt.withCred {
						t.Errorf("%s: Allow-Credentials %q, want %q", name, got, tt.withCred)
					}
					if got := slices.Contains(h["Vary"], "Origin"); got != tt.vary {
						t.Errorf("%s: Vary %q", name, h["Vary"])
					}
					if exposed := h.Get("Access-Control-Expose-Headers"); (exposed != "") != (tt.allow != "") {
						t.Errorf("%s: Expose-Headers %q", name, exposed)
					}
				}
			})
		}
	})
}

func TestPreflightIsAnsweredBeforeAuthentication(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withCORS("https://app.example"))
		ask := func(path, origin string) *http.Response {
			return ask(t, e, request{"OPTIONS", path, []string{
				"Origin: " + origin, "Access-Control-Request-Method: POST", "Authorization: Bearer wrong",
				"Access-Control-Request-Headers: authorization, idempotency-key",
			}, ""})
		}
		for _, path := range []string{"/live/a", "/live/a/", "/live/_publish", "/live", "/live/_nothing"} {
			resp := ask(path, "https://app.example")
			if resp.StatusCode != http.StatusNoContent {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin":      "https://app.example",
				"Access-Control-Allow-Credentials": "true",
				"Access-Control-Allow-Methods":     "GET, HEAD, POST, PUT, PATCH, DELETE",
				"Access-Control-Allow-Headers":     "Authorization, Cache-Control, Content-Type, Last-Event-ID, Idempotency-Key, If-Match, If-None-Match",
				"Access-Control-Max-Age":           "7200",
				"Vary":                             "Origin",
			} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %s %q, want %q", path, name, got, want)
				}
			}
		}
		resp := ask("/live/a", "https://evil.example")
		if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("a foreign origin: %d %v", resp.StatusCode, resp.Header)
		}
	})
}

func TestConfiguredOriginsMayPublish(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name    string
			origins []string
			header  []string
			status  int
		}{
			{"configured", []string{"https://app.example"}, []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"another", []string{"https://app.example"}, []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 403},
			{"any", []string{"*"}, []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"any, with a cookie", []string{"*"}, []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Cookie: session=1"}, 403},
			{"configured, with a cookie", []string{"*", "https://app.example"}, []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site", "Cookie: session=1"}, 200},
			{"below a pattern", []string{"https://*.app.example"}, []string{"Origin: https://a.app.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"below a pattern, with a cookie", []string{"https://*.app.example"}, []string{"Origin: https://a.app.example", "Sec-Fetch-Site: cross-site", "Cookie: session=1"}, 403},
			{"beside a pattern", []string{"https://*.app.example"}, []string{"Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 403},
			{"the same origin, with a cookie", []string{"*"}, []string{"Sec-Fetch-Site: same-origin", "Cookie: session=1"}, 200},
			{"the same origin", nil, []string{"Origin: http://hub.example", "Sec-Fetch-Site: same-origin"}, 200},
			{"the same origin of an old browser", nil, []string{"Origin: http://hub.example"}, 200},
			{"no browser", nil, nil, 200},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t, withCORS(tt.origins...))
				if resp := ask(t, e, asBackend("POST", "/live/a", "x", tt.header...)); resp.StatusCode != tt.status {
					t.Errorf("%d %s", resp.StatusCode, bodyOf(t, resp))
				}
			})
		}
	})
}
