package evstream

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/stream"
)

// ticketed is a handler that gives tickets for tokens and a bearer.
func ticketed(keys ...string) *Handler {
	h := withKeys(jwtSecret)
	h.Bearers = map[string]string{"backend": backendSecret}
	h.Tickets = &TicketsConfig{Keys: keys}
	h.Mount = "/live"
	return h
}

// sealFor makes a ticket for a request, as if who had asked for it.
func sealFor(t testing.TB, a *access, who caller, r *http.Request) string {
	t.Helper()
	content, err := a.newTicket(who, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.tickets.seal(content)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// requestFor is a request to the hub, with lines of a header.
func requestFor(method, host, query string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "https://"+host+"/live/a?"+query, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func aliceToken(t testing.TB, a *access, claims gojwt.MapClaims) caller {
	t.Helper()
	who, err := a.identify(requestWith(sign(t, "HS256", aliceClaims(claims))))
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func TestATicketIsItsCaller(t *testing.T) {
	a := accessOf(t, ticketed())
	who := aliceToken(t, a, gojwt.MapClaims{
		"jti": "17", "iat": 1763700000, "room": 9007199254740993,
		"evstream": map[string]any{"subscribe": []string{"orders/17/**"}},
	})
	sealed := sealFor(t, a, who, requestFor("POST", "hub.example", ""))
	for _, secret := range []string{"alice", "orders", "17", "hub.example"} {
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil || strings.Contains(string(raw), secret) {
			t.Errorf("the ticket tells %q, %v", secret, err)
		}
	}
	got, err := a.identify(requestFor("GET", "hub.example", "ticket="+sealed))
	if err != nil {
		t.Fatal(err)
	}
	if got.user != "alice" || got.parent != "17" || got.tokenID == "" || got.method != byTicket || got.issued.Unix() != 1763700000 ||
		!got.expires.Equal(who.expires) || got.claims["room"] != json.Number("9007199254740993") ||
		got.grants.patterns["subscribe"][0].String() != "orders/17/**" || got.ambient {
		t.Errorf("got %+v", got)
	}
	backend := sealFor(t, a, caller{name: "backend", method: byBearer}, requestFor("POST", "hub.example", ""))
	got, err = a.identify(requestFor("GET", "hub.example", "ticket="+backend))
	if err != nil || got.name != "backend" || time.Until(got.expires) > maxTicketAge || time.Until(got.expires) < maxTicketAge-time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A ticket is bound to the page that asked for it, to the host, to the broker
// and the mount, and to reading.
func TestATicketIsGoodWhereItWasGiven(t *testing.T) {
	const key = "a key of thirty-two bytes or more"
	given := func(h *Handler, host string, header ...string) string {
		a := accessOf(t, h)
		return sealFor(t, a, aliceToken(t, a, nil), requestFor("POST", host, "", header...))
	}
	other := ticketed()
	other.Mount = "/chat"
	noTokens := ticketed()
	noTokens.JWT = nil
	with := func(change func(*JWTConfig)) *Handler {
		h := ticketed(key)
		change(h.JWT)
		return h
	}
	const renewed = "another secret, of an issuer whose users are not ours"
	page := "Origin: https://app.example"
	same := "Origin: https://hub.example"
	for _, tt := range []struct {
		name    string
		ticket  string
		handler *Handler
		request *http.Request
		good    bool
	}{
		{"a program's", given(ticketed(), "hub.example"), ticketed(), requestFor("GET", "hub.example", ""), true},
		{"a program's, with a port", given(ticketed(), "hub.example:443"), ticketed(), requestFor("GET", "hub.example", ""), true},
		{"a program's, in a page", given(ticketed(), "hub.example"), ticketed(), requestFor("GET", "hub.example", "", page), false},
		{"a program's, in a page of the same site", given(ticketed(), "hub.example"), ticketed(), requestFor("GET", "hub.example", "", "Sec-Fetch-Site: same-origin"), false},
		{"a page's", given(ticketed(), "hub.example", page), ticketed(), requestFor("GET", "hub.example", "", page), true},
		{"a page's, in another page", given(ticketed(), "hub.example", page), ticketed(), requestFor("GET", "hub.example", "", "Origin: https://evil.example"), false},
		{"a page's, in a page of the hub's", given(ticketed(), "hub.example", page), ticketed(), requestFor("GET", "hub.example", ""), false},
		{"a page's, in a page without an origin", given(ticketed(), "hub.example", page), ticketed(), requestFor("GET", "hub.example", "", "Origin: null"), false},
		{"two origins", given(ticketed(), "hub.example", page), ticketed(), requestFor("GET", "hub.example", "", page, page), false},
		{"of the same site", given(ticketed(), "hub.example", same), ticketed(), requestFor("GET", "hub.example", "", "Sec-Fetch-Site: same-origin"), true},
		{"of the same site, with its port", given(ticketed(), "hub.example", same), ticketed(), requestFor("GET", "hub.example:443", ""), true},
		{"of the same site, by an image of another", given(ticketed(), "hub.example", same), ticketed(), requestFor("GET", "hub.example", "", "Sec-Fetch-Site: cross-site"), false},
		{"of the same site, from the address bar", given(ticketed(), "hub.example", same), ticketed(), requestFor("GET", "hub.example", "", "Sec-Fetch-Site: none"), false},

		{"another host", given(ticketed(), "hub.example"), ticketed(), requestFor("GET", "other.example", ""), false},
		{"another host, with the same key", given(ticketed(key), "hub.example"), ticketed(key), requestFor("GET", "other.example", ""), true},
		{"another key", given(ticketed(key), "hub.example"), ticketed(), requestFor("GET", "hub.example", ""), false},
		{"an old key", given(ticketed(key), "hub.example"), ticketed("another "+key, key), requestFor("GET", "hub.example", ""), true},
		{"another mount", given(ticketed(), "hub.example"), other, requestFor("GET", "hub.example", ""), false},
		{"a credential that is not accepted any more", given(ticketed(), "hub.example"), noTokens, requestFor("GET", "hub.example", ""), false},
		{"where another key verifies", given(ticketed(key), "hub.example"), with(func(c *JWTConfig) { c.Keys[0].Key = renewed }), requestFor("GET", "hub.example", ""), false},
		{"where another key does, too", given(ticketed(key), "hub.example"), with(func(c *JWTConfig) { c.Keys = append([]JWTKey{{Key: renewed}}, c.Keys...) }), requestFor("GET", "hub.example", ""), true},
		{"where tokens are of another issuer", given(ticketed(key), "hub.example"), with(func(c *JWTConfig) { c.Issuer = "https://issuer.example" }), requestFor("GET", "hub.example", ""), false},
		{"where tokens are for another audience", given(ticketed(key), "hub.example"), with(func(c *JWTConfig) { c.Audience = []string{"chat"} }), requestFor("GET", "hub.example", ""), false},
		{"where the user is in a claim that it has not", given(ticketed(key), "hub.example"), with(func(c *JWTConfig) { c.UserClaim = "exp" }), requestFor("GET", "hub.example", ""), false},
		{"for publishing", given(ticketed(), "hub.example"), ticketed(), requestFor("POST", "hub.example", ""), false},
		{"for a ticket", given(ticketed(), "hub.example"), ticketed(), requestFor("POST", "hub.example", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.request.URL.RawQuery = "ticket=" + tt.ticket
			_, err := accessOf(t, tt.handler).identify(tt.request)
			if tt.good && err != nil {
				t.Fatal(err)
			}
			if !tt.good {
				refusedWith(t, err, http.StatusUnauthorized)
			}
		})
	}
}

func TestATicketEndsWithTheSecretOfItsBearer(t *testing.T) {
	a := accessOf(t, ticketed())
	sealed := sealFor(t, a, caller{name: "backend", method: byBearer}, requestFor("POST", "hub.example", ""))
	h := ticketed()
	h.Bearers["backend"] = "another secret"
	_, err := accessOf(t, h).identify(requestFor("GET", "hub.example", "ticket="+sealed))
	refusedWith(t, err, http.StatusUnauthorized)
}

func TestATicketIsNotForUsersOfAnotherApplication(t *testing.T) {
	asking := func(url string) *access {
		h := ticketed()
		h.Verify = &VerifyConfig{URL: url}
		return accessOf(t, h)
	}
	a := asking("http://localhost:1/a")
	sealed := sealFor(t, a, caller{user: "alice", method: byApplication, source: a.application.name()}, requestFor("POST", "hub.example", ""))
	_, err := asking("http://localhost:1/b").identify(requestFor("GET", "hub.example", "ticket="+sealed))
	refusedWith(t, err, http.StatusUnauthorized)
	if _, err := asking("http://localhost:1/a").identify(requestFor("GET", "hub.example", "ticket="+sealed)); err != nil {
		t.Error(err)
	}
}

// Ticket guessing, and tickets that are changed. What defends is that tickets
// are sealed with XChaCha20-Poly1305, whose tag covers every bit, and what they
// are good for besides; and that they have no second spelling (Strict).
func TestTicketsCannotBeGuessedOrChanged(t *testing.T) {
	a := accessOf(t, ticketed())
	who := aliceToken(t, a, nil)
	r := requestFor("POST", "hub.example", "")
	sealed := sealFor(t, a, who, r)
	try := func(ticket string) error {
		_, err := a.identify(requestFor("GET", "hub.example", "ticket="+url.QueryEscape(ticket)))
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 1 << bit
			refusedWith(t, try(base64.RawURLEncoding.EncodeToString(changed)), http.StatusUnauthorized)
		}
		refusedWith(t, try(base64.RawURLEncoding.EncodeToString(raw[:i])), http.StatusUnauthorized)
	}
	for _, other := range []string{"", " ", sealed + "=", sealed + "A", sealed + "\n", sealed[1:], strings.Repeat("A", maxTicket), strings.Repeat("A", maxTicket+1), backendSecret} {
		refusedWith(t, try(other), http.StatusUnauthorized)
	}
	seen := map[string]bool{}
	for range 100 {
		content, err := a.newTicket(who, r, time.Now())
		if err != nil || seen[content.ID] || len(content.ID) != 22 {
			t.Fatalf("id %q, %v", content.ID, err)
		}
		seen[content.ID] = true
	}
	if err := try(sealed); err != nil {
		t.Errorf("and the ticket itself: %v", err)
	}
}

func TestATicketIsForOneConnectAndItsReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := accessOf(t, ticketed())
		who := aliceToken(t, a, gojwt.MapClaims{"exp": time.Now().Add(2 * time.Hour).Unix()})
		post := requestFor("POST", "hub.example", "")
		used, unused := sealFor(t, a, who, post), sealFor(t, a, who, post)
		connect := func(ticket string) error {
			_, err := a.identify(requestFor("GET", "hub.example", "ticket="+ticket))
			return err
		}
		// Of a stream that nobody knows, a reload does not make a used one.
		_, err := a.identify(askAgain(requestFor("GET", "hub.example", "ticket="+used), caller{}))
		refusedWith(t, err, http.StatusUnauthorized)

		time.Sleep(ticketLifetime - time.Second)
		if err := connect(used); err != nil {
			t.Errorf("the first connect: %v", err)
		}
		time.Sleep(time.Second)
		refusedWith(t, connect(unused), http.StatusUnauthorized)
		for range 3 {
			time.Sleep(30 * time.Minute)
			if err := connect(used); err != nil {
				t.Errorf("a reconnect: %v", err)
			}
		}
		time.Sleep(29 * time.Minute)
		refusedWith(t, connect(used), http.StatusUnauthorized)
		if err := connect(used); !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
	})
}

func TestUsedTicketsAreBounded(t *testing.T) {
	a := accessOf(t, ticketed())
	a.hub.used.ids.limit = 1
	who := aliceToken(t, a, nil)
	connect := func() error {
		_, err := a.identify(requestFor("GET", "hub.example", "ticket="+sealFor(t, a, who, requestFor("POST", "hub.example", ""))))
		return err
	}
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	err := connect()
	refusedWith(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, errTooManyTickets) {
		t.Errorf("got %v", err)
	}
}

func TestTicketSettingsThatAreRefused(t *testing.T) {
	for want, c := range map[string]TicketsConfig{
		"lifetime must be from 1s to 1h, not 1ms":             {Lifetime: 1e6},
		"lifetime must be from 1s to 1h, not 2h":              {Lifetime: 7200e9},
		"key 1 has 5 bytes, at least 32 are needed":           {Keys: []string{"short"}},
		"key 2: evaluated placeholder {env.EVSTREAM_TEST_UNS": {Keys: []string{strings.Repeat("x", 32), "{env.EVSTREAM_TEST_UNSET}"}},
		"5 keys, at most 4 are accepted":                      {Keys: make([]string, 5)},
		"tickets needs another credential, for which a ticke": {},
	} {
		h := ticketed()
		if h.Tickets = &c; c.Lifetime == 0 && c.Keys == nil {
			h.JWT, h.Bearers = nil, nil
		}
		if _, err := openAccess(t, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// ticketSite is a site that accepts tokens and gives tickets.
func ticketSite(address, more string) string {
	return site(address, "", "\t\tjwt {\n\t\t\tkey \""+jwtSecret+"\"\n\t\t}\n\t\ttickets\n\t\tallow anyone subscribe,publish **"+more)
}

// askTicket posts for a ticket.
func askTicket(t testing.TB, address, token string, change ...func(*http.Request)) string {
	t.Helper()
	status, body := send(t, "POST", "http://"+address+"/live/_tickets", "", append(change, header("Authorization", "Bearer "+token))...)
	var doc ticketDoc
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	if in := time.Until(doc.Expires); in <= 0 || in > ticketLifetime {
		t.Errorf("the ticket expires in %s", in)
	}
	return doc.Ticket
}

func TestTicketsOpenStreamsAndLiveOverReloads(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	base := "http://" + address + "/live/a"
	exp := soon()
	ticket := askTicket(t, address, sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": exp})))
	s := subscribe(t, base+"?ticket="+ticket)
	mustPublish(t, base, "one")
	s.expect("one")
	h := theHub(t, "default")
	if l := h.list(); len(l) != 1 || l[0].who.user != "alice" || l[0].who.expires.Unix() != exp {
		t.Errorf("got %+v", l)
	}
	for i := range 3 {
		if err := reload(t, ticketSite(address, fmt.Sprintf("\n\t\theartbeat %ds", i+20))); err != nil {
			t.Fatal(err)
		}
	}
	mustPublish(t, base, "two")
	s.expect("two")
	unused := askTicket(t, address, sign(t, "HS256", aliceClaims(nil)))
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
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.disconnects[stream.ReasonReplaced] == 1 && len(h.ticketed) == 2
	})
	again.cancel()
	eventually(t, "the stream to be forgotten", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.ticketed) == 1
	})
}

func TestWhoIsGivenATicket(t *testing.T) {
	address := freeAddress(t)
	load(t, ticketSite(address, ""))
	base := "http://" + address + "/live"
	token := sign(t, "HS256", aliceClaims(nil))
	ticket := askTicket(t, address, token)
	for _, tt := range []struct {
		name   string
		method string
		path   string
		header [][2]string
		status int
		want   string
	}{
		{"nobody", "POST", "/_tickets", nil, 401, "a ticket is given to who has another credential"},
		{"a wrong token", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token + "x"}}, 401, "the credential is not accepted here"},
		{"a ticket", "POST", "/_tickets?ticket=" + ticket, nil, 401, "a ticket is for reading only"},
		{"a foreign page", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Origin", "https://evil.example"}}, 403, "cross-origin"},
		{"a page without an origin", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Origin", "null"}}, 403, ""},
		{"a compressed body", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}, {"Content-Encoding", "gzip"}}, 415, ""},
		{"GET", "GET", "/_tickets", [][2]string{{"Authorization", "Bearer " + token}}, 405, "_tickets gives a ticket, with POST"},
		{"too many claims", "POST", "/_tickets", [][2]string{{"Authorization", "Bearer " + sign(t, "HS256", aliceClaims(gojwt.MapClaims{"x": strings.Repeat("x", 4000)}))}}, 413, "the claims are too many"},
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
	exp := time.Now().Unix() + 3
	token := sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": exp}))
	byHeader := subscribe(t, base, header("Authorization", "Bearer "+token))
	byTicket := subscribe(t, base+"?ticket="+askTicket(t, address, token))
	for _, s := range []*caddyStream{byHeader, byTicket} {
		e, err := s.events.Next()
		if err != nil || e.Type != "evstream.expiring" || !strings.Contains(string(e.Data), `"expires":"`+time.Unix(exp, 0).UTC().Format(time.RFC3339)) {
			t.Fatalf("got %+v, %v", e, err)
		}
		if time.Now().Unix() >= exp {
			t.Error("the notice came too late")
		}
	}
	for _, s := range []*caddyStream{byHeader, byTicket} {
		s.ended()
		if now := time.Now(); now.Unix() < exp || now.After(time.Unix(exp+2, 0)) {
			t.Errorf("it ended %s after its token", now.Sub(time.Unix(exp, 0)))
		}
	}
	h := theHub(t, "default")
	eventually(t, "both to be counted as expired", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.disconnects[stream.ReasonExpired] == 2
	})
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
	exp := time.Now().Unix() + 2
	token := header("Authorization", "Bearer "+sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": exp})))
	_, body := send(t, "GET", url, "", token)
	var answer pollAnswer
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	status, body := send(t, "GET", url+"&last_event_id="+answer.LastEventID, "", token)
	if late := time.Since(time.Unix(exp, 0)); status != 200 || late > 5*time.Second {
		t.Errorf("got %d %s, %s after the token has expired", status, body, late)
	}
}

func FuzzTicket(f *testing.F) {
	a := accessOf(f, ticketed())
	sealed := sealFor(f, a, caller{user: "alice", method: byToken, tokenID: "x"}, requestFor("POST", "hub.example", ""))
	f.Add(sealed)
	f.Add("")
	f.Add(sealed[:40])
	f.Fuzz(func(t *testing.T, ticket string) {
		content, err := a.tickets.open(ticket)
		if err != nil {
			if !errors.Is(err, errTicket) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if ticket != sealed || content.User != "alice" {
			t.Fatalf("opened, and nobody sealed it: %q", ticket)
		}
	})
}
