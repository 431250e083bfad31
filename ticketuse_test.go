package evstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
)

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
	a.hub.used.configure(1, 10)
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

// One user cannot use up the tickets of all, and gets new ones when the old ones
// have expired.
func TestUsedTicketsOfOneUserAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := accessOf(t, ticketed())
		a.hub.used.configure(100, 3)
		post := requestFor("POST", "hub.example", "")
		connect := func(who caller) error {
			_, err := a.identify(requestFor("GET", "hub.example", "ticket="+sealFor(t, a, who, post)))
			return err
		}
		exp := gojwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}
		alice := aliceToken(t, a, exp)
		for range 3 {
			if err := connect(alice); err != nil {
				t.Fatal(err)
			}
		}
		refusedWith(t, connect(aliceToken(t, a, nil)), http.StatusServiceUnavailable)
		bob := aliceToken(t, a, gojwt.MapClaims{"sub": "bob"})
		backend := caller{name: "backend", method: byBearer}
		for _, other := range []caller{bob, backend, backend, backend, backend} {
			if err := connect(other); err != nil {
				t.Errorf("%s: %v", other, err)
			}
		}
		time.Sleep(time.Hour)
		if err := connect(aliceToken(t, a, nil)); err != nil {
			t.Errorf("later: %v", err)
		}
		a.hub.used.mu.Lock()
		defer a.hub.used.mu.Unlock()
		if got := a.hub.used.owners[(&ticket{User: "alice"}).owner()]; got != 1 {
			t.Errorf("alice has %d", got)
		}
	})
}

// A reload may find another credential in the request of a stream that a ticket
// has opened.
func TestATicketIsForgottenWithItsStream(t *testing.T) {
	address := freeAddress(t)
	config := func(more string) string {
		return site(address, "", "\t\tjwt {\n\t\t\tkey \""+jwtSecret+"\"\n\t\t}\n\t\ttickets\n"+more+"\t\tallow anyone subscribe **")
	}
	load(t, config(""))
	h := theHub(t, "default")
	ticket := askTicketWith(t, address, bearer64(t, nil))
	s := subscribe(t, "http://"+address+"/live/a?ticket="+ticket+"&token="+sign(t, "HS256", aliceClaims(nil)))
	if err := reload(t, config("\t\tinsecure_query_token\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token to decide", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for l := range h.streams {
			return l.who.method == byToken
		}
		return false
	})
	s.cancel()
	eventually(t, "the stream to end", func() bool { return len(h.list()) == 0 })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ticketed) != 0 {
		t.Errorf("its ticket is there still: %v", h.ticketed)
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
