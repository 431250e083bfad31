package evstream

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// anyoneMay serves a rule for anyone: who may is decided in front, by a cookie.
func anyoneMay(c *siteConfig) {
	c.handler.Allow = rulesOf("anyone subscribe,publish,purge **")
	c.handler.Bearers = map[string]string{"backend": backendSecret}
}

func TestWritesWithACookieNeedAnAllowedOrigin(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, anyoneMay, withCORS("https://app.example"))
		for _, tt := range []struct {
			name   string
			header []string
			status int
		}{
			{"none", []string{"Cookie: session=1"}, 403},
			{"none, of the same site as the browser says", []string{"Cookie: session=1", "Sec-Fetch-Site: same-origin"}, 403},
			{"the same", []string{"Cookie: session=1", "Origin: http://hub.example"}, 200},
			{"the same, behind a proxy with TLS", []string{"Cookie: session=1", "Origin: https://hub.example"}, 200},
			{"one that is named", []string{"Cookie: session=1", "Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"a foreign one", []string{"Cookie: session=1", "Origin: https://evil.example"}, 403},
			{"null", []string{"Cookie: session=1", "Origin: null"}, 403},
			{"two", []string{"Cookie: session=1", "Origin: http://hub.example", "Origin: http://hub.example"}, 403},
			{"another port", []string{"Cookie: session=1", "Origin: http://hub.example:81"}, 403},
			{"a longer host", []string{"Cookie: session=1", "Origin: http://hub.example.evil"}, 403},
			{"another scheme", []string{"Cookie: session=1", "Origin: file://hub.example"}, 403},
			{"none, and no cookie", nil, 200},
			{"none, with a bearer beside the cookie", []string{"Cookie: session=1", "Authorization: Bearer " + backendSecret}, 200},
		} {
			for _, q := range []request{
				{"POST", "/live/a", tt.header, "x"},
				{"POST", "/live/_publish", tt.header, `{"channel":"a"}`},
				{"DELETE", "/live/a?history", tt.header, ""},
			} {
				resp := ask(t, e, q)
				if resp.StatusCode != tt.status {
					t.Errorf("%s: %s %s: %d %s", tt.name, q.method, q.path, resp.StatusCode, bodyOf(t, resp))
				} else if tt.status == 403 {
					wantProblem(t, resp, 403, "cross-origin")
				}
			}
		}
	})
}

func TestReadsWithACookieAreNotForForeignPages(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name    string
			origins string
			header  []string
			status  int
		}{
			{"a cross-site EventSource", "", []string{"Cookie: session=1", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 403},
			{"of a browser that says the origin only", "", []string{"Cookie: session=1", "Origin: https://evil.example"}, 403},
			{"an image of a foreign page", "", []string{"Cookie: session=1", "Sec-Fetch-Site: cross-site"}, 403},
			{"an image of a sibling", "", []string{"Cookie: session=1", "Sec-Fetch-Site: same-site"}, 403},
			{"a browser's own password", "", []string{"Authorization: Basic eDp5", "Origin: https://evil.example"}, 401},
			{"where any origin may call", "*", []string{"Cookie: session=1", "Origin: https://evil.example"}, 403},
			{"where its pattern may call", "https://*.app.example", []string{"Cookie: session=1", "Origin: https://a.app.example"}, 403},
			{"one that is named", "https://app.example", []string{"Cookie: session=1", "Origin: https://app.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"the same origin", "", []string{"Cookie: session=1", "Sec-Fetch-Site: same-origin"}, 200},
			{"the same origin, said", "", []string{"Cookie: session=1", "Origin: http://hub.example", "Sec-Fetch-Site: same-origin"}, 200},
			{"the address bar", "", []string{"Cookie: session=1", "Sec-Fetch-Site: none"}, 200},
			{"no browser", "", []string{"Cookie: session=1"}, 200},
			{"a foreign page without a cookie", "", []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 200},
			{"a bearer beside a cookie", "", []string{"Cookie: session=1", "Authorization: Bearer " + backendSecret, "Origin: https://evil.example"}, 200},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t, anyoneMay, withCORS(strings.Fields(tt.origins)...))
				mustPost(t, e, "/live/a", "x")
				value := broker.Op{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Value: []byte("1")}}
				if _, err := e.hub.Broker().Publish(t.Context(), []broker.Op{value}); err != nil {
					t.Fatal(err)
				}
				for _, read := range []string{"GET /live/a?poll=1", "GET /live/a?info", "GET /live/_channels", "GET /live/a", "HEAD /live/a"} {
					method, path, _ := strings.Cut(read, " ")
					resp := ask(t, e, request{method, path, append(tt.header, "Accept: application/json"), ""})
					if resp.StatusCode != tt.status {
						t.Errorf("%s: %d %s", read, resp.StatusCode, bodyOf(t, resp))
					} else if tt.status == 403 && method == "GET" {
						wantProblem(t, resp, 403, "cross-origin")
					}
				}
				if tt.status == 403 { // the others would stream on
					wantProblem(t, ask(t, e, request{"GET", "/live/a", tt.header, ""}), 403, "cross-origin")
				}
			})
		}
	})
}
