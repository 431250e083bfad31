package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/problem"
)

// backendSecret is that of the bearer "backend" of tests.
const backendSecret = "backend-secret"

// ticketKey makes the tickets of tests that configure no key, for all
// Authenticators, as those of one process.
var ticketKey = sync.OnceValue(NewTicketKey)

// freshTickets is a TicketStore that lets in whoever has a fresh ticket. What
// tickets in use are good for is the hub's to say, and tested in httpapi.
type freshTickets struct{}

func (freshTickets) MayUseTicket(t *access.TicketUse, now time.Time, again bool) error {
	if again || !now.Before(t.Open) {
		return access.ErrExpired
	}
	return nil
}

// authOf opens what identifies callers, until the test ends.
func authOf(t testing.TB, c *Config, change ...func(*Deps)) *Authenticator {
	t.Helper()
	a, err := openAuth(t, c, change...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func openAuth(t testing.TB, c *Config, change ...func(*Deps)) (*Authenticator, error) {
	t.Helper()
	deps := Deps{
		TicketStore: freshTickets{}, Scope: []string{"test", "/live"}, TicketKey: ticketKey(),
	}
	for _, f := range change {
		f(&deps)
	}
	a, err := Open(c, deps)
	if err == nil {
		t.Cleanup(a.Close)
	}
	return a, err
}

// withKeys accepts tokens of some keys.
func withKeys(keys ...string) *Config {
	c := &Config{JWT: new(JWT)}
	for _, key := range keys {
		c.JWT.Keys = append(c.JWT.Keys, Key{Text: key})
	}
	return c
}

// ticketed gives tickets for tokens and a bearer.
func ticketed(keys ...string) *Config {
	c := withKeys(authtest.Secret)
	c.Bearers = map[string]string{"backend": backendSecret}
	c.Tickets = &Tickets{Keys: keys}
	return c
}

// everyWay accepts each kind of credential.
func everyWay(t testing.TB) *Config {
	c := ticketed()
	c.Cookie, c.QueryParameter, c.Outer = "session", "token", outerUser
	c.Verify = &Verify{URL: authtest.StartApplication(t, authtest.Says(200, `{"user":"application's"}`)).URL}
	return c
}

// outer is the key under which the context of a request has the user that a
// handler in front has authenticated.
type outer struct{}

func outerUser(r *http.Request) string {
	user, _ := r.Context().Value(outer{}).(string)
	return user
}

// asOuter is a request that a handler in front has authenticated.
func asOuter(r *http.Request, user string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), outer{}, user))
}

// requestWith is a request with a bearer.
func requestWith(secret string) *http.Request {
	r := httptest.NewRequest("GET", "/live/a", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	return r
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

// refusedWith fails the test unless err is an answer of that status.
func refusedWith(t testing.TB, err error, status int) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if got := problem.Of(err).Status(); got != status {
		t.Fatalf("got %d (%v), want %d", got, err, status)
	}
}

// wantGrants fails the test unless a caller's own grants are just these: verbs,
// each with one pattern.
func wantGrants(t testing.TB, who *access.Caller, grants map[string]string) {
	t.Helper()
	rules := new(access.Policy) // none: only grants allow anything
	for _, verb := range access.Verbs() {
		pattern, want := grants[verb]
		if rules.Somewhere(who, verb) != want {
			t.Errorf("a grant of %s: want %v", verb, want)
		}
		if by := "the token's grant " + verb + " " + pattern; want && rules.Decide(who, verb, pattern).By != by {
			t.Errorf("to %s %s is allowed by %q", verb, pattern, rules.Decide(who, verb, pattern).By)
		}
	}
}
