package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// sealFor makes a ticket for a request, as if who had asked for it.
func sealFor(t testing.TB, a *Authenticator, who *access.Caller, r *http.Request) string {
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

// aliceToken is the caller of a token.
func aliceToken(t testing.TB, a *Authenticator, claims authtest.Claims) *access.Caller {
	t.Helper()
	who, err := a.AuthenticateStream(requestWith(authtest.Sign(t, "HS256", authtest.Alice(claims))))
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func TestATicketIsItsCaller(t *testing.T) {
	a := authOf(t, ticketed())
	who := aliceToken(t, a, authtest.Claims{
		"jti": "the seventeenth", "iat": 1763700000, "room": 9007199254740993,
		"evstream": map[string]any{"subscribe": []string{"orders/17/**"}},
	})
	sealed := sealFor(t, a, who, requestFor("POST", "hub.example", ""))
	for _, secret := range []string{"alice", "orders", "seventeenth", "hub.example"} {
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil || strings.Contains(string(raw), secret) {
			t.Errorf("the ticket tells %q, %v", secret, err)
		}
	}
	got, err := a.AuthenticateStream(requestFor("GET", "hub.example", "ticket="+sealed))
	if err != nil {
		t.Fatal(err)
	}
	if got.User != "alice" || got.Parent != "the seventeenth" || got.TokenID == "" || got.Method != access.ByTicket || !got.Issued.Equal(who.Issued) ||
		!got.Expires.Equal(who.Expires) || got.Claims["room"] != json.Number("9007199254740993") ||
		got.Ambient {
		t.Errorf("got %+v", got)
	}
	wantGrants(t, got, map[string]string{"subscribe": "orders/17/**"})
	backend := sealFor(t, a, &access.Caller{Name: "backend", Method: access.ByBearer}, requestFor("POST", "hub.example", ""))
	got, err = a.AuthenticateStream(requestFor("GET", "hub.example", "ticket="+backend))
	if err != nil || got.Name != "backend" || time.Until(got.Expires) > maxTicketAge || time.Until(got.Expires) < maxTicketAge-time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A ticket is bound to the page that asked for it, to the host, to the broker
// and the mount, and to reading.
func TestATicketIsGoodWhereItWasGiven(t *testing.T) {
	const key = "a key of thirty-two bytes or more"
	given := func(h *Config, host string, header ...string) string {
		a := authOf(t, h)
		return sealFor(t, a, aliceToken(t, a, nil), requestFor("POST", host, "", header...))
	}
	noTokens := ticketed()
	noTokens.JWT = nil
	with := func(change func(*JWT)) *Config {
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
		config  *Config
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
		{"a credential that is not accepted any more", given(ticketed(), "hub.example"), noTokens, requestFor("GET", "hub.example", ""), false},
		{"where another key verifies", given(ticketed(key), "hub.example"), with(func(c *JWT) { c.Keys[0].Text = renewed }), requestFor("GET", "hub.example", ""), false},
		{"where another key does, too", given(ticketed(key), "hub.example"), with(func(c *JWT) { c.Keys = append([]Key{{Text: renewed}}, c.Keys...) }), requestFor("GET", "hub.example", ""), true},
		{"where tokens are of another issuer", given(ticketed(key), "hub.example"), with(func(c *JWT) { c.Issuer = "https://issuer.example" }), requestFor("GET", "hub.example", ""), false},
		{"where tokens are for another audience", given(ticketed(key), "hub.example"), with(func(c *JWT) { c.Audience = []string{"chat"} }), requestFor("GET", "hub.example", ""), false},
		{"where the user is in a claim that it has not", given(ticketed(key), "hub.example"), with(func(c *JWT) { c.UserClaim = "exp" }), requestFor("GET", "hub.example", ""), false},
		{"for publishing", given(ticketed(), "hub.example"), ticketed(), requestFor("POST", "hub.example", ""), false},
		{"for a ticket", given(ticketed(), "hub.example"), ticketed(), requestFor("POST", "hub.example", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.request.URL.RawQuery = "ticket=" + tt.ticket
			_, err := authOf(t, tt.config).AuthenticateStream(tt.request)
			if tt.good && err != nil {
				t.Fatal(err)
			}
			if !tt.good {
				refusedWith(t, err, http.StatusUnauthorized)
			}
		})
	}
}

// A ticket is good for one broker and one mount, whatever the key: of those of
// one process, and of a secret that is configured.
func TestATicketIsGoodForItsScope(t *testing.T) {
	for name, keys := range map[string][]string{"the process's key": nil, "a secret": {"a key of thirty-two bytes or more"}} {
		t.Run(name, func(t *testing.T) {
			of := func(scope ...string) *Authenticator {
				return authOf(t, ticketed(keys...), func(d *Deps) { d.Scope = scope })
			}
			given := of("default", "/live")
			sealed := sealFor(t, given, aliceToken(t, given, nil), requestFor("POST", "hub.example", ""))
			for _, tt := range []struct {
				scope []string
				good  bool
			}{
				{[]string{"default", "/live"}, true},
				{[]string{"default", "/LIVE"}, true},
				{[]string{"default", "/chat"}, false},
				{[]string{"other", "/live"}, false},
				{[]string{"default/", "live"}, false},
				{[]string{"default", "/live", ""}, false},
				{[]string{"default/live"}, false},
				{nil, false},
			} {
				_, err := of(tt.scope...).AuthenticateStream(requestFor("GET", "hub.example", "ticket="+sealed))
				if tt.good && err != nil {
					t.Errorf("%q: %v", tt.scope, err)
				}
				if !tt.good {
					refusedWith(t, err, http.StatusUnauthorized)
				}
			}
		})
	}
}

// Ticket guessing, and tickets that are changed. What defends is that tickets
// are sealed with XChaCha20-Poly1305, whose tag covers every bit, and what they
// are good for besides; and that they have no second spelling (Strict).
func TestTicketsCannotBeGuessedOrChanged(t *testing.T) {
	a := authOf(t, ticketed())
	who := aliceToken(t, a, nil)
	r := requestFor("POST", "hub.example", "")
	sealed := sealFor(t, a, who, r)
	try := func(ticket string) error {
		_, err := a.AuthenticateStream(requestFor("GET", "hub.example", "ticket="+url.QueryEscape(ticket)))
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

func TestTicketSettingsThatAreRefused(t *testing.T) {
	for want, c := range map[string]Tickets{
		"lifetime must be from 1s to 1h, not 1ms":             {Lifetime: 1e6},
		"lifetime must be from 1s to 1h, not 2h":              {Lifetime: 7200e9},
		"key 1 has 5 bytes, at least 32 are needed":           {Keys: []string{"short"}},
		"key 2 has 0 bytes, at least 32 are needed":           {Keys: []string{strings.Repeat("x", 32), ""}},
		"5 keys, at most 4 are accepted":                      {Keys: make([]string, 5)},
		"tickets needs another credential, for which a ticke": {},
	} {
		h := ticketed()
		if h.Tickets = &c; c.Lifetime == 0 && c.Keys == nil {
			h.JWT, h.Bearers = nil, nil
		}
		if _, err := openAuth(t, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzTicket(f *testing.F) {
	a := authOf(f, ticketed())
	sealed := sealFor(f, a, &access.Caller{User: "alice", Method: access.ByToken, TokenID: "x"}, requestFor("POST", "hub.example", ""))
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
