package doctor

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// What proxies do to CORS: each is named, also what only a preflight shows.
func TestCORSIsJudgedAsABrowserDoes(t *testing.T) {
	const origin = "https://app.example"
	good := func(h http.Header, preflight bool) int {
		h.Set("Access-Control-Allow-Origin", origin)
		if !preflight {
			h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
			return http.StatusOK
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
		return http.StatusNoContent
	}
	for _, tt := range []struct {
		name   string
		change func(h http.Header, preflight bool) int // 0: the status stays
		level  Level
		saw    string
	}{
		{"good", func(http.Header, bool) int { return 0 }, OK, "may read, without cookies"},
		{"with cookies", func(h http.Header, _ bool) int { h.Set("Access-Control-Allow-Credentials", "true"); return 0 }, OK, "may read, with cookies"},
		{"any origin", func(h http.Header, _ bool) int { h.Set("Access-Control-Allow-Origin", "*"); return 0 }, OK, "may read"},
		{"none", func(h http.Header, _ bool) int { h.Del("Access-Control-Allow-Origin"); return 0 }, Problem, "no Access-Control-Allow-Origin"},
		{"another", func(h http.Header, _ bool) int {
			h.Set("Access-Control-Allow-Origin", "https://www.example")
			return 0
		}, Problem, "is https://www.example, and not " + origin},
		{"two in two lines", func(h http.Header, _ bool) int { h.Add("Access-Control-Allow-Origin", "*"); return 0 }, Problem, "more than once"},
		{"two in one line", func(h http.Header, _ bool) int {
			h.Set("Access-Control-Allow-Origin", origin+", *")
			return 0
		}, Problem, "more than once"},
		{"a preflight that is guarded", func(_ http.Header, preflight bool) int {
			if preflight {
				return http.StatusUnauthorized
			}
			return 0
		}, Problem, "a preflight is answered 401 Unauthorized"},
		{"a preflight that is redirected", func(_ http.Header, preflight bool) int {
			if preflight {
				return http.StatusMovedPermanently
			}
			return 0
		}, Problem, "a preflight is answered 301"},
		{"a preflight that somebody else answers", func(h http.Header, preflight bool) int {
			if preflight {
				h.Set("Access-Control-Allow-Headers", "Content-Type")
			}
			return 0
		}, Problem, `a preflight allows the headers "content-type"`},
		{"a preflight without an origin", func(h http.Header, preflight bool) int {
			if preflight {
				h.Del("Access-Control-Allow-Origin")
			}
			return 0
		}, Problem, "a preflight is answered with Access-Control-Allow-Origin: "},
		{"exposed headers are replaced", func(h http.Header, _ bool) int {
			h.Set("Access-Control-Expose-Headers", "X-Request-Id")
			return 0
		}, Warning, "does not name ETag and Retry-After"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				preflight := r.Method == http.MethodOptions
				if preflight && r.Header.Get("Authorization") != "" {
					t.Error("a preflight has a token")
				}
				status := good(w.Header(), preflight)
				if other := tt.change(w.Header(), preflight); other > 0 {
					status = other
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(s.Close)
			mount, err := url.Parse(s.URL + "/live/")
			if err != nil {
				t.Fatal(err)
			}
			p := &peer{host: mount.Hostname()}
			x := exam{
				Config: Config{Origin: origin, Token: "secret", Timeout: time.Minute, Late: time.Minute},
				report: &Report{}, peer: p, client: newClient(p, time.Minute, false), mount: mount, channel: "a", hub: true,
			}
			defer x.client.CloseIdleConnections()
			x.cors(t.Context())
			if !found(x.report, "cors", tt.level, tt.saw) {
				t.Errorf("%+v", x.report.Findings)
			}
			if tt.level == Problem && x.report.Findings[0].Effect == "" {
				t.Errorf("it does not say what that does: %+v", x.report.Findings)
			}
		})
	}
}
