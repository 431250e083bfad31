package evstream

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// Attacks with tickets, which stand in URLs, and so get into the hands of others.

// givesTickets accepts tokens, and gives tickets for them.
func givesTickets(c *siteConfig) {
	c.handler.JWT = &JWTConfig{Keys: []JWTKey{{Key: authtest.Secret}}}
	c.handler.Tickets = &TicketsConfig{Keys: []string{"a key of thirty-two bytes or more"}}
	c.handler.Allow = rulesOf("user all **", "backend all **", "anyone subscribe open")
}

// tokenOf is the header of a user's token.
func tokenOf(t testing.TB, user string) string {
	return "Authorization: Bearer " + authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": user, "jti": user}))
}

// ticketOf asks for a ticket with a header.
func ticketOf(t *testing.T, e *testSite, header ...string) string {
	t.Helper()
	var doc struct{ Ticket string }
	body := bodyOf(t, ask(t, e, request{"POST", "/live/_tickets", header, ""}))
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Ticket == "" {
		t.Fatalf("got %s", body)
	}
	return doc.Ticket
}

// Who reads along in a log could poll beside the owner's stream, and never be
// noticed: only a second stream ends the first.
func TestATicketOpensStreamsAndNothingElse(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets)
		mustPost(t, e, "/live/a", "secret")
		if resp := ask(t, e, request{"PUT", "/live/a", []string{tokenOf(t, "alice")}, `"secret"`}); resp.StatusCode >= 300 {
			t.Fatalf("got %d", resp.StatusCode)
		}
		ticket := ticketOf(t, e, tokenOf(t, "alice"))
		owner := openStream(t, e, "/live/a?ticket="+ticket)
		owner.opened()
		asked := "ticket=" + ticket
		for _, q := range []request{
			{"GET", "/live/a?poll=1&since=earliest&" + asked, nil, ""},
			{"GET", "/live/a?info&" + asked, nil, ""},
			{"GET", "/live/open?info&" + asked, nil, ""},
			{"GET", "/live/_channels?" + asked, nil, ""},
			{"GET", "/live/a?" + asked, []string{"Accept: application/json"}, ""},
			{"POST", "/live/a?" + asked, nil, "x"},
			{"POST", "/live/_publish?" + asked, nil, `{"channel":"a"}`},
			{"PUT", "/live/a?" + asked, nil, "1"},
			{"PATCH", "/live/a?incr=1&" + asked, nil, ""},
			{"DELETE", "/live/a?" + asked, nil, ""},
			{"POST", "/live/_tickets?" + asked, nil, ""},
		} {
			resp := ask(t, e, q)
			doc := wantProblem(t, resp, 401, "unauthorized")
			if !strings.Contains(doc.Detail, "a ticket opens a stream, with GET, and nothing else") {
				t.Errorf("%s %s: %s", q.method, q.path, doc.Detail)
			}
		}
		if resp := ask(t, e, request{"HEAD", "/live/a?info&" + asked, nil, ""}); resp.StatusCode != 401 {
			t.Errorf("HEAD: %d", resp.StatusCode)
		}
		mustPost(t, e, "/live/a", "on")
		for block := owner.event(); !strings.Contains(block, "data: on\n"); block = owner.event() {
		}
		// A better credential beside it decides, as anywhere.
		if resp := ask(t, e, request{"GET", "/live/a?poll=1&" + asked, []string{tokenOf(t, "alice")}, ""}); resp.StatusCode != 200 {
			t.Errorf("with a token: %d", resp.StatusCode)
		}
	})
}

// A ticket that was only tried would be good until its credential expires, for
// whoever has seen it.
func TestATicketThatOpensNoStreamIsNotUsed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets, func(c *siteConfig) {
			c.handler.Tickets.Lifetime = caddy.Duration(2 * time.Second)
			c.handler.OnOverload = "503"
			c.broker.MaxConnectionsPerUser = 1
		})
		held := openStream(t, e, "/live/a", tokenOf(t, "alice"))
		held.opened()
		var ticket string
		var gone time.Time
		eventually(t, "all to be tried while the ticket is fresh", func() bool {
			fresh := time.Now().Add(2 * time.Second)
			ticket = "ticket=" + ticketOf(t, e, tokenOf(t, "alice"))
			gone = time.Now().Add(2 * time.Second)
			for _, q := range []struct {
				path   string
				status int
			}{
				{"/live/a?poll=1&" + ticket, 401},
				{"/live/a?since=nonsense&" + ticket, 400},
				{"/live/a?last_event_id=evstream.end&" + ticket, 204},
				{"/live/a?" + ticket, 429}, // alice has her one stream
			} {
				resp := ask(t, e, request{"GET", q.path, nil, ""})
				if !time.Now().Before(fresh) {
					return false
				}
				if resp.StatusCode != q.status {
					t.Errorf("%s: %d %s", q.path, resp.StatusCode, bodyOf(t, resp))
				}
			}
			return true
		})
		held.cancel()
		eventually(t, "the stream to end", func() bool { return len(e.hub.Sessions()) == 0 })
		eventually(t, "the ticket to expire", func() bool { return time.Now().After(gone) })
		wantProblem(t, ask(t, e, request{"GET", "/live/a?" + ticket, nil, ""}), 401, "unauthorized")
		bob := openStream(t, e, "/live/a?ticket="+ticketOf(t, e, tokenOf(t, "bob")))
		bob.opened()
	})
}

// A revoked credential's ticket is refused for that, and is not used up or kept.
func TestARevokedTicketIsNotUsed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, givesTickets)
		ticket := "/live/a?ticket=" + ticketOf(t, e, tokenOf(t, "alice"))
		revoked := hub.Revocation{Token: "alice", At: time.Now()}
		if _, err := e.hub.Revoke(t.Context(), &revoked, time.Now()); err != nil {
			t.Fatal(err)
		}
		doc := wantProblem(t, ask(t, e, request{"GET", ticket, nil, ""}), 401, "unauthorized")
		if strings.Contains(doc.Detail, "ticket") {
			t.Errorf("got %s", doc.Detail)
		}
		if resp := ask(t, e, request{"GET", "/live/open?poll=1", nil, ""}); resp.StatusCode != http.StatusOK {
			t.Errorf("somebody else: %d", resp.StatusCode)
		}
	})
}
