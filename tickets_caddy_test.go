package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/stream"
)

// ticketSite is a site that accepts tokens and gives tickets.
func ticketSite(address, more string) string {
	return site(address, "", tokenBlock+"\t\ttickets\n\t\tallow anyone subscribe,publish **"+more)
}

// askTicket posts for a ticket.
func askTicket(t testing.TB, address, token string, change ...func(*http.Request)) string {
	t.Helper()
	status, body := send(t, "POST", "http://"+address+"/live/_tickets", "", append(change, header("Authorization", "Bearer "+token))...)
	var doc struct {
		Ticket  string
		Expires time.Time
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	if in := time.Until(doc.Expires); in <= 0 || in > time.Minute {
		t.Errorf("the ticket expires in %s", in)
	}
	return doc.Ticket
}

func TestTicketsOpenStreamsAndLiveOverReloads(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	base := "http://" + address + "/live/a"
	exp := authtest.Soon()
	ticket := askTicket(t, address, authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp})))
	s := subscribe(t, base+"?ticket="+ticket)
	mustPublish(t, base, "one")
	s.expect("one")
	h := theHub(t, "default")
	l := h.Sessions()
	if len(l) != 1 {
		t.Fatalf("%d streams", len(l))
	}
	if who := h.Standing(l[0]).Caller; who.User != "alice" || who.Expires.Unix() != exp {
		t.Errorf("got %+v", who)
	}
	for i := range 3 {
		if err := reload(t, ticketSite(address, fmt.Sprintf("\n\t\theartbeat %ds", i+20))); err != nil {
			t.Fatal(err)
		}
	}
	mustPublish(t, base, "two")
	s.expect("two")
	unused := askTicket(t, address, authtest.Sign(t, "HS256", authtest.Alice(nil)))
	if err := reload(t, ticketSite(address, "")); err != nil {
		t.Fatal(err)
	}
	subscribe(t, base+"?ticket="+unused)

	// The session comes back while its old connection hangs: that one ends.
	again := subscribe(t, base+"?ticket="+ticket)
	s.ended()
	mustPublish(t, base, "three")
	again.expect("three")
	eventually(t, "the old stream to be replaced", func() bool {
		s := h.Stats()
		return s.Disconnects[stream.ReasonReplaced] == 1 && s.Streams == 2
	})
	again.cancel()
	eventually(t, "the stream to be forgotten", func() bool { return h.Stats().Streams == 1 })
}

func TestWhoIsGivenATicket(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	base := "http://" + address + "/live"
	token := authtest.Sign(t, "HS256", authtest.Alice(nil))
	ticket := askTicket(t, address, token)
	for _, tt := range []struct {
		name   string
		method string
		path   string
		header [][2]string
		status int
		want   string
	}{
		{"nobody", "POST", "/_tickets", nil, 401, "a ticket is given for another credential, and the request has none"},
		{"a wrong token", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token + "x"}}, 401, "the credential is not accepted here"},
		{"a ticket", "POST", "/_tickets?ticket=" + ticket, nil, 401, "a ticket opens a stream, with GET, and nothing else"},
		{"a foreign page", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Origin", "https://evil.example"}}, 403, "cross-origin"},
		{"a page without an origin", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Origin", "null"}}, 403, ""},
		{"a compressed body", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Content-Encoding", "gzip"}}, 415, ""},
		{"GET", "GET", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}}, 405, "_tickets gives a ticket, with POST"},
		{"too many claims", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"x": strings.Repeat("x", 4000)}))}}, 413, "the claims are too many"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := send(t, tt.method, base+tt.path, "", func(r *http.Request) {
				for _, h := range tt.header {
					r.Header.Set(h[0], h[1])
				}
			})
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s, want %d and %q", status, body, tt.status, tt.want)
			}
		})
	}
}

func TestNoTicketsAreGivenUnlessThatIsConfigured(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", "\t\tbearer b c\n\t\tallow b subscribe **"))
	status, body := send(t, "POST", "http://"+address+"/live/_tickets", "", header("Authorization", "Bearer c"))
	if status != 404 || !strings.Contains(body, "tickets is not configured") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestAStreamEndsWhenItsTokenExpires(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	base := "http://" + address + "/live/a"
	exp := time.Now().Unix() + 6 // the streams have begun before half of that
	token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp}))
	byHeader := subscribe(t, base, header("Authorization", "Bearer "+token))
	byTicket := subscribe(t, base+"?ticket="+askTicket(t, address, token))
	for _, s := range []*caddyStream{byHeader, byTicket} {
		e, err := s.events.Next()
		if err != nil || e.Type != "evstream.expiring" || !strings.Contains(string(e.Data), `"expires":"`+time.Unix(exp, 0).UTC().Format(time.RFC3339)) {
			t.Fatalf("got %+v, %v", e, err)
		}
	}
	for _, s := range []*caddyStream{byHeader, byTicket} {
		s.ended()
		if left := time.Until(time.Unix(exp, 0)); left > 0 {
			t.Errorf("it ended %s before its token", left)
		}
	}
	h := theHub(t, "default")
	eventually(t, "both to be counted as expired", func() bool { return h.Stats().Disconnects[stream.ReasonExpired] == 2 })
	for _, change := range []func(*http.Request){header("Authorization", "Bearer "+token)} {
		r := connect(t, base, change)
		if r.status != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("got %d %v", r.status, r.header)
		}
	}
}

func TestAPollWaitsNoLongerThanItsToken(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	url := "http://" + address + "/live/a?poll=1"
	exp := time.Now().Unix() + 6
	token := header("Authorization", "Bearer "+authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp})))
	_, body := send(t, "GET", url, "", token)
	var answer struct {
		LastEventID string `json:"last_event_id"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	status, body := send(t, "GET", url+"&last_event_id="+answer.LastEventID+"&timeout=60", "", token)
	if late := time.Since(time.Unix(exp, 0)); status != 200 || late > patience {
		t.Errorf("got %d %s, %s after the token has expired", status, body, late)
	}
}

// A reload may find another credential in the request of a stream that a ticket
// has opened. That its ticket is forgotten with it is tested in hub.
func TestAReloadFindsAnotherCredentialThanTheTicket(t *testing.T) {
	address := freeAddress(t)
	config := func(more string) string {
		return site(address, "", tokenBlock+"\t\ttickets\n"+more+"\t\tallow anyone subscribe **")
	}
	load(t, config(""))
	h := theHub(t, "default")
	ticket := askTicket(t, address, authtest.Sign(t, "HS256", authtest.Alice(nil)))
	s := subscribe(t, "http://"+address+"/live/a?ticket="+ticket+"&token="+authtest.Sign(t, "HS256", authtest.Alice(nil)))
	if err := reload(t, config("\t\tinsecure_query_token\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token to decide", func() bool {
		l := h.Sessions()
		return len(l) == 1 && h.Standing(l[0]).Caller.Method == access.ByToken
	})
	s.cancel()
	eventually(t, "the stream to end", func() bool { return len(h.Sessions()) == 0 })
}
