package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// Attacks of callers who pass for another, or whose credential outlives its end.

// A client that sends a credential in the wrong form was taken for anonymous, in
// silence.
func TestACredentialThatIsNotUnderstoodIsRefused(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish **"))
		for header, status := range map[string]int{
			"Accept: */*":                            200,
			"Authorization: Bearer " + backendSecret: 200,
			"Authorization: bearer " + backendSecret: 200,
			"Authorization: " + backendSecret:        401,
			"Authorization: Basic":                   401,
			"Authorization: Basic Y2Fyb2w6Y2Fyb2xz":  401,
			"Authorization: Token " + backendSecret:  401,
			"Authorization: Bearer":                  401,
		} {
			for _, q := range []request{{"GET", "/live/a?poll=1", []string{header}, ""}, {"POST", "/live/a", []string{header}, "x"}, {"GET", "/live/a", []string{header, "Last-Event-ID: evstream.end"}, ""}} {
				resp := ask(t, e, q)
				if got := resp.StatusCode; got != status && (status != 200 || got != 204) {
					t.Errorf("%s with %q: %d %s", q.method, header, got, bodyOf(t, resp))
					continue
				}
				if status != 401 {
					continue
				}
				challenge := resp.Header.Get("WWW-Authenticate")
				doc := wantProblem(t, resp, 401, "unauthorized")
				told := strings.Contains(doc.Detail, "it is to be the word Bearer, a space, and a token or the secret of a bearer") && challenge == "Bearer"
				if !told && header != "Authorization: Bearer" || strings.Contains(doc.Detail, backendSecret) {
					t.Errorf("%q: %s, %q", header, doc.Detail, challenge)
				}
			}
		}
	})
}

// What basic_auth in front has accepted is not the hub's to refuse, whether or not it
// takes the user from there.
func TestBasicAuthInFrontWorksBesideBearers(t *testing.T) {
	for _, believed := range []bool{true, false} {
		t.Run(fmt.Sprint("caddy_auth ", believed), func(t *testing.T) {
			e := servers[0].start(t, withTable("anyone subscribe,publish **"), func(c *siteConfig) {
				c.handler.CaddyAuth, c.handler.Bearers = believed, map[string]string{"backend": backendSecret}
				c.handler.JWT, c.handler.Cookie = nil, ""
			})
			const carol, origin = "Authorization: Basic Y2Fyb2w6Y2Fyb2xz", "Origin: http://hub.example"
			for _, q := range []request{
				{"GET", "/live/a?poll=1", []string{carol}, ""},
				{"POST", "/live/a", []string{carol, origin}, "x"},
				{"GET", "/live/a", []string{carol, "Last-Event-ID: evstream.end"}, ""},
				{"GET", "/live/a?poll=1", nil, ""},
				{"GET", "/live/a?poll=1", []string{"Authorization: Bearer " + backendSecret}, ""},
			} {
				if resp := ask(t, e, q); resp.StatusCode != 200 && resp.StatusCode != 204 {
					t.Errorf("%s %v: %d %s", q.method, q.header, resp.StatusCode, bodyOf(t, resp))
				}
			}
			wantProblem(t, ask(t, e, request{"GET", "/live/a?poll=1", []string{carol, "Origin: https://evil.example"}, ""}), 403, "cross-origin")
			if resp := ask(t, e, request{"GET", "/live/a?poll=1", []string{"Authorization: Basic Y2Fyb2w6eA=="}, ""}); resp.StatusCode != 401 {
				t.Errorf("a wrong password: %d", resp.StatusCode)
			}
			s := openStream(t, e, "/live/a", carol)
			s.opened()
			mustPost(t, e, "/live/a", "on")
			if block := s.event(); !strings.Contains(block, "data: on\n") {
				t.Errorf("got %q", block)
			}
		})
	}
}

// Wrong bearers had no rate: each is compared, and each token is verified.
func TestCredentialsThatAreRefusedHaveARate(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets, func(c *siteConfig) {
			c.broker.RefusedRate = Rate{PerSecond: 0.001, Burst: 3}
			c.handler.Bearers = map[string]string{"backend": backendSecret}
		})
		const attacker = "X-Forwarded-For: 203.0.113.9"
		wrong := []string{attacker, "Authorization: Bearer wrong"}
		for _, q := range []request{{"POST", "/live/a", wrong, "x"}, {"GET", "/live/open?poll=1", wrong, ""}, {"GET", "/live/open?ticket=wrong", []string{attacker}, ""}} {
			wantProblem(t, ask(t, e, q), 401, "unauthorized")
		}
		good := []string{attacker, "Authorization: Bearer " + backendSecret} // which it has guessed
		for _, q := range []request{
			{"POST", "/live/a", wrong, "x"},
			{"POST", "/live/a", good, "x"},
			{"PUT", "/live/a", good, "1"},
			{"GET", "/live/open?poll=1", good, ""},
			{"GET", "/live/open?info", good, ""},
			{"POST", "/live/_tickets", good, ""},
			{"GET", "/live/_channels", good, ""},
		} {
			resp := ask(t, e, q)
			if after := resp.Header.Get("Retry-After"); after == "" {
				t.Errorf("%s %s: no Retry-After", q.method, q.path)
			}
			wantProblem(t, resp, 429, "refused-rate")
		}
		// A stream is asked to come back: after any error an EventSource never does.
		if resp := ask(t, e, request{"GET", "/live/open", good, ""}); resp.StatusCode != 200 || !strings.Contains(bodyOf(t, resp), "retry: ") {
			t.Errorf("a stream: %d", resp.StatusCode)
		}
		// Without a credential it reads what anyone may, and others are served.
		for _, header := range [][]string{{attacker}, {"X-Forwarded-For: 198.51.100.7", "Authorization: Bearer " + backendSecret}, {"X-Forwarded-For: 198.51.100.7", tokenOf(t, "bob")}} {
			if resp := ask(t, e, request{"GET", "/live/open?poll=1", header, ""}); resp.StatusCode != 200 {
				t.Errorf("%v: %d %s", header, resp.StatusCode, bodyOf(t, resp))
			}
		}
		if n := e.hub.Stats().Refusals["refused_rate"]; n == 0 {
			t.Error("no subscriber is counted as refused by it")
		}
	})
}

// Documents, values and tickets had no rate at all.
func TestReadsHaveARate(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets, func(c *siteConfig) {
			c.broker.ReadRate = Rate{PerSecond: 0.001, Burst: 4}
			c.handler.Bearers = map[string]string{"backend": backendSecret}
		})
		mustPost(t, e, "/live/open", "x")
		reads := []request{{"GET", "/live/open?poll=1", nil, ""}, {"GET", "/live/open?info", nil, ""}, {"GET", "/live/_channels", nil, ""}, {"GET", "/live/open", []string{"Accept: application/json"}, ""}}
		for name, attack := range map[string][]string{"an address": {"X-Forwarded-For: 203.0.113.9"}, "a user": {tokenOf(t, "mallory")}} {
			for round, want := range []int{200, 429} {
				for _, q := range reads {
					q.header = append(q.header, attack...)
					resp := ask(t, e, q)
					if got := resp.StatusCode; got != want && (want != 200 || got != 404) { // there is no value
						t.Errorf("%s, round %d, %s: %d %s", name, round, q.path, got, bodyOf(t, resp))
					} else if want == 429 {
						if resp.Header.Get("Retry-After") == "" {
							t.Errorf("%s: no Retry-After", q.path)
						}
						wantProblem(t, resp, 429, "read-rate")
					}
				}
			}
		}
		wantProblem(t, ask(t, e, request{"POST", "/live/_tickets", []string{tokenOf(t, "mallory")}, ""}), 429, "read-rate")
		ticketOf(t, e, tokenOf(t, "bob"))
		openStream(t, e, "/live/open", tokenOf(t, "mallory")).opened() // streams have limits of their own
		for _, honest := range []string{"X-Forwarded-For: 198.51.100.7", tokenOf(t, "alice"), "Authorization: Bearer " + backendSecret} {
			for range 3 {
				if resp := ask(t, e, request{"GET", "/live/open?poll=1", []string{honest}, ""}); resp.StatusCode != 200 {
					t.Errorf("%s: %d %s", honest, resp.StatusCode, bodyOf(t, resp))
				}
			}
		}
		for range 20 { // the operator's own program
			if resp := ask(t, e, asBackend("GET", "/live/open?info", "")); resp.StatusCode != 200 {
				t.Fatalf("the backend: %d", resp.StatusCode)
			}
		}
	})
}

// asksDevices asks an application, which knows devices by claims alone: the device
// is what the bearer says.
func asksDevices(t *testing.T) func(*siteConfig) {
	app := authtest.StartApplication(t, func(w http.ResponseWriter, r *http.Request) {
		device := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		authtest.Says(200, fmt.Sprintf(`{"claims":{"kind":"device","id":%q,"exp":%d}}`, device, authtest.Soon()))(w, r)
	})
	return func(c *siteConfig) {
		c.handler.Bearers = nil
		c.handler.Verify = &VerifyConfig{URL: app.URL}
		c.handler.Tickets = &TicketsConfig{Keys: []string{"a key of thirty-two bytes or more"}}
		c.handler.Allow = rulesOf("claim kind device subscribe,publish,state **")
	}
}

// session is the id in the opening event of a stream.
func sessionIn(t *testing.T, opened string) string {
	t.Helper()
	_, data, _ := strings.Cut(opened, "\ndata: ")
	var doc struct{ Session string }
	if err := json.Unmarshal([]byte(data), &doc); err != nil || doc.Session == "" {
		t.Fatalf("got %q, %v", opened, err)
	}
	return doc.Session
}

// One device could use up the idempotency keys of another, and hold values by its
// session.
func TestCallersKnownByClaimsAreToldApart(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, asksDevices(t))
		const mallory, victim = "Authorization: Bearer mallory", "Authorization: Bearer victim"
		for _, who := range []string{mallory, victim, victim} {
			resp := ask(t, e, request{"POST", "/live/a", []string{who, "Idempotency-Key: k"}, "by " + who})
			replayed := resp.Header.Get("Idempotency-Replayed") != ""
			if resp.StatusCode != 200 {
				t.Fatalf("%s: %d %s", who, resp.StatusCode, bodyOf(t, resp))
			}
			if replayed && who == mallory {
				t.Error("the first is a repetition")
			}
		}
		if got := kept(t, e, "a"); len(got) != 2 {
			t.Errorf("there are %d events", len(got))
		}
		for how, header := range map[string][]string{"its bearer": {victim}, "a ticket": nil} {
			path := "/live/a"
			if header == nil {
				path += "?ticket=" + ticketOf(t, e, victim)
			}
			s := openStream(t, e, path, header...)
			bind := "/live/at?session=" + sessionIn(t, s.opening())
			wantProblem(t, ask(t, e, request{"PUT", bind, []string{mallory}, "1"}), 403, "forbidden")
			if resp := ask(t, e, request{"PUT", bind, []string{victim}, "1"}); resp.StatusCode >= 300 {
				t.Errorf("its own session by %s: %d %s", how, resp.StatusCode, bodyOf(t, resp))
			}
			s.cancel()
		}
	})
}

// A page of anywhere has the browser of a visitor in the office load an image: it
// cannot see it, but it would hold streams open that only the office may.
func TestAMatcherIsNotForWhatAForeignPageLoads(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("@office subscribe office", "anyone subscribe public", "backend publish,state **"), func(c *siteConfig) {
			c.handler.Allow[0].MatcherSetsRaw = caddyhttp.RawMatcherSets{{"header": json.RawMessage(`{"X-Office":["yes"]}`)}}
			c.matchers = map[string]func(*http.Request) bool{"@office": func(r *http.Request) bool { return r.Header.Get("X-Office") == "yes" }}
		})
		mustPost(t, e, "/live/office", "x")
		mustPost(t, e, "/live/public", "x")
		for site, status := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 401, "cross-site": 401, "of-later-times": 401} {
			header := []string{"X-Office: yes"}
			if site != "" {
				header = append(header, "Sec-Fetch-Site: "+site)
			}
			for _, path := range []string{"/live/office?poll=1", "/live/office?info", "/live/office"} {
				resp := ask(t, e, request{"GET", path, append(header, "Last-Event-ID: evstream.end"), ""})
				if got := resp.StatusCode; got != status && (status != 200 || got != 204) {
					t.Errorf("%s %q: %d, want %d", path, site, got, status)
				}
			}
			if resp := ask(t, e, request{"GET", "/live/public?poll=1", header, ""}); resp.StatusCode != 200 {
				t.Errorf("what anyone may, %q: %d", site, resp.StatusCode)
			}
		}
	})
}

// A token whose issuer's clock is ahead seemed to be newer than the revocation that
// was made after it.
func TestARevocationCoversTokensOfAClockThatIsAhead(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets)
		issued := func(user string, at time.Time) string {
			return "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": user, "iat": at.Unix()}))
		}
		now := time.Now()
		alice, bob := issued("alice", now.Add(4*time.Second)), issued("bob", now.Add(4*time.Second))
		ticket := "/live/a?ticket=" + ticketOf(t, e, alice)
		s := openStream(t, e, "/live/a", alice)
		s.opened()
		revoked := hub.Revocation{User: "alice", At: time.Now()}
		if n, err := e.hub.Revoke(t.Context(), &revoked, time.Now()); n != 1 || err != nil {
			t.Errorf("%d streams ended, %v", n, err)
		}
		wantProblem(t, ask(t, e, request{"GET", "/live/a?poll=1", []string{alice}, ""}), 401, "unauthorized")
		wantProblem(t, ask(t, e, request{"GET", ticket, nil, ""}), 401, "unauthorized")
		if resp := ask(t, e, request{"GET", "/live/a?poll=1", []string{bob}, ""}); resp.StatusCode != 200 {
			t.Errorf("bob: %d", resp.StatusCode)
		}
		// A token of long enough after it is accepted.
		earlier := hub.Revocation{User: "carol", At: time.Now().Add(-7 * time.Second)}
		if _, err := e.hub.Revoke(t.Context(), &earlier, time.Now()); err != nil {
			t.Fatal(err)
		}
		if resp := ask(t, e, request{"GET", "/live/a?poll=1", []string{issued("carol", time.Now())}, ""}); resp.StatusCode != 200 {
			t.Errorf("a later token: %d", resp.StatusCode)
		}
	})
}
