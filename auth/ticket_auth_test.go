package auth

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/problem"
)

func TestATicketEndsWithTheSecretOfItsBearer(t *testing.T) {
	a := authOf(t, ticketed())
	sealed := sealFor(t, a, &access.Caller{Name: "backend", Method: access.ByBearer}, requestFor("POST", "hub.example", ""))
	h := ticketed()
	h.Bearers["backend"] = "another secret"
	_, err := authOf(t, h).AuthenticateStream(requestFor("GET", "hub.example", "ticket="+sealed))
	refusedWith(t, err, http.StatusUnauthorized)
}

func TestATicketIsNotForUsersOfAnotherApplication(t *testing.T) {
	asking := func(url string) *Authenticator {
		c := ticketed()
		c.Verify = &Verify{URL: url}
		return authOf(t, c)
	}
	a := asking("http://localhost:1/a")
	sealed := sealFor(t, a, &access.Caller{User: "alice", Method: access.ByApplication, Source: a.application.name()}, requestFor("POST", "hub.example", ""))
	_, err := asking("http://localhost:1/b").AuthenticateStream(requestFor("GET", "hub.example", "ticket="+sealed))
	refusedWith(t, err, http.StatusUnauthorized)
	if _, err := asking("http://localhost:1/a").AuthenticateStream(requestFor("GET", "hub.example", "ticket="+sealed)); err != nil {
		t.Error(err)
	}
}

// ticketUses is a TicketStore that records what it is asked.
type ticketUses struct {
	uses  []access.TicketUse
	again []bool
	err   error
}

func (u *ticketUses) MayUseTicket(t *access.TicketUse, _ time.Time, again bool) error {
	u.uses, u.again = append(u.uses, *t), append(u.again, again)
	return u.err
}

// What the store is asked about a ticket, and that its answer decides.
func TestTheStoreOfTicketsDecides(t *testing.T) {
	store := new(ticketUses)
	a := authOf(t, ticketed(), func(d *Deps) { d.TicketStore = store })
	post, exp := requestFor("POST", "hub.example", ""), authtest.Soon()
	begun := time.Now()
	connect := func(who *access.Caller, was *access.Caller) error {
		t.Helper()
		r := requestFor("GET", "hub.example", "ticket="+sealFor(t, a, who, post))
		if was != nil {
			r = Again(r, was)
		}
		_, err := a.AuthenticateStream(r)
		return err
	}
	alice := aliceToken(t, a, authtest.Claims{"exp": exp, "jti": "17"})
	backend := &access.Caller{Name: "backend", Method: access.ByBearer}
	for _, who := range []*access.Caller{alice, aliceToken(t, a, nil), aliceToken(t, a, authtest.Claims{"sub": "bob"}), backend, backend} {
		if err := connect(who, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := connect(alice, alice); err != nil {
		t.Fatal(err)
	}
	if want := []bool{false, false, false, false, false, true}; !slices.Equal(store.again, want) {
		t.Errorf("it is a request that is made again: %v, want %v", store.again, want)
	}
	ids := map[string]bool{}
	for _, use := range store.uses {
		ids[use.ID] = true
	}
	if len(ids) != len(store.uses) || ids[""] {
		t.Errorf("tickets are not told apart: %v", ids)
	}
	// Each user has a share, whichever token a ticket was asked for with; named
	// bearers have none. The store is not told who it is.
	owner := func(i int) string { return store.uses[i].Owner }
	if owner(0) == "" || owner(0) != owner(1) || owner(0) == owner(2) || owner(3) != "" || owner(0) == "alice" {
		t.Errorf("the owners are %+v", store.uses)
	}
	first := store.uses[0]
	if in := first.Open.Sub(begun); in <= ticketLifetime-time.Second || in > ticketLifetime+time.Minute {
		t.Errorf("the first use is within %s", in)
	}
	if first.End.Unix() != exp || store.uses[3].End.Before(begun.Add(maxTicketAge-time.Second)) {
		t.Errorf("the ends are %+v", store.uses)
	}
	for status, err := range map[int]error{
		http.StatusUnauthorized:       access.ErrExpired,
		http.StatusServiceUnavailable: problem.Overloaded.Because("too many tickets are in use"),
	} {
		store.err = err
		refusedWith(t, connect(alice, nil), status)
	}
}

// A ticket that is refused before is not used.
func TestATicketThatIsNotAcceptedIsNotUsed(t *testing.T) {
	store := new(ticketUses)
	a := authOf(t, ticketed(), func(d *Deps) { d.TicketStore = store })
	sealed := sealFor(t, a, aliceToken(t, a, nil), requestFor("POST", "hub.example", ""))
	for _, r := range []*http.Request{
		requestFor("GET", "other.example", "ticket="+sealed),
		requestFor("POST", "hub.example", "ticket="+sealed),
		requestFor("GET", "hub.example", "ticket="+sealed, "Origin: https://evil.example"),
		requestFor("GET", "hub.example", "ticket="+sealed+"A"),
	} {
		_, err := a.AuthenticateStream(r)
		refusedWith(t, err, http.StatusUnauthorized)
	}
	if len(store.uses) != 0 {
		t.Errorf("it was used: %+v", store.uses)
	}
}
