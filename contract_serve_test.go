package evstream

import (
	"net/http"
	"strings"
	"testing"
)

// Caddy's next handler answers what lies outside of the mount; under net/http
// there is none.
func TestAPathOutsideOfTheMountGoesOn(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withCORS("https://app.example"))
		for _, q := range []request{
			{method: "GET", path: "/"},
			{method: "GET", path: "/livestock"},
			{method: "GET", path: "/live/../x"},
			asBackend("POST", "/other", "x", "Origin: https://app.example"),
		} {
			resp := ask(t, e, q)
			for name := range resp.Header {
				if name == "Vary" || name == "Allow" || strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s was set for somebody else's answer", q.path, name)
				}
			}
			if on.name == "caddy" {
				if resp.StatusCode != http.StatusTeapot {
					t.Errorf("%s: %d", q.path, resp.StatusCode)
				}
				continue
			}
			if doc := wantProblem(t, resp, 404, "not-found"); !strings.Contains(doc.Detail, "outside of /live/") {
				t.Errorf("%s: %s", q.path, doc.Detail)
			}
		}
	})
}

func TestGetsThatAreNoStream(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, tt := range []struct {
			name, path, accept string
			status             int
			kind               string
		}{
			{"state", "/live/match.7", "application/json", 404, "no-state"},
			{"a picture", "/live/match.7", "image/png", 406, "not-acceptable"},
			{"a poll as a stream", "/live/match.7?poll=1", "text/event-stream", 406, "not-acceptable"},
			{"info as a stream", "/live/match.7?info", "text/event-stream", 406, "not-acceptable"},
			{"a flag that is none", "/live/match.7?poll=yes", "*/*", 400, "bad-parameter"},
			{"info of no channel", "/live/?info", "*/*", 400, "bad-parameter"},
			{"info of a channel that is not there", "/live/match.7?info", "*/*", 404, "not-found"},
			{"info that is not allowed", "/live/secret?info", "*/*", 401, "unauthorized"},
			{"info of a pattern", "/live/match.*?info", "*/*", 400, "bad-channel"},
			{"a name beneath", "/live/public/", "text/event-stream", 405, "bad-method"},
			{"no channel", "/live/", "text/event-stream", 400, "bad-parameter"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				wantProblem(t, ask(t, e, request{"GET", tt.path, []string{"Accept: " + tt.accept}, ""}), tt.status, tt.kind)
			})
		}
	})
}
