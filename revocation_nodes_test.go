package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/stream"
)

func TestWhatIsRevokedAtOneNodeIsRevokedAtAll(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": server.Addr()})
	iat := time.Now().Unix() - 10
	alice := authtest.Bearer(t, gojwt.MapClaims{"jti": "a1", "iat": iat})
	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob", "jti": "b1", "iat": iat})
	carol := authtest.Bearer(t, gojwt.MapClaims{"sub": "carol", "iat": iat})
	for _, s := range []*caddyStream{subscribe(t, f.at("a", "x"), carol), subscribe(t, f.at("b", "x"), carol)} {
		defer s.expect("on")
	}
	aliceA, aliceB := subscribe(t, f.at("a", "x"), alice), subscribe(t, f.at("b", "x"), alice)
	bobB := subscribe(t, f.at("b", "x"), bob)
	cursor := f.hub("b").Broker().Head().String()
	poll := make(chan int)
	go func() {
		status, _ := send(t, "GET", f.at("b", "y")+"?poll=1&timeout=60&last_event_id="+cursor, "", bob)
		poll <- status
	}()
	eventually(t, "the poll to wait", func() bool {
		doc, ok := f.hub("b").Broker().Channel("y")
		return ok && doc.Subscribers == 1
	})

	if doc := f.revoke("a", `{"user":"alice"}`); doc.Streams != 1 {
		t.Errorf("got %+v", doc)
	}
	aliceA.ended()
	aliceB.ended()
	if doc := f.revoke("a", `{"token":"b1","for":"1h"}`); doc.Streams != 0 || doc.Until.IsZero() {
		t.Errorf("got %+v", doc)
	}
	bobB.ended()
	if status := <-poll; status != http.StatusUnauthorized {
		t.Errorf("the poll got %d", status)
	}
	f.refused(alice, "a", "b")
	f.refused(bob, "a", "b")
	const all = "user:alice, ~token:b1"
	if a, b := f.known("a"), f.known("b"); a != all || b != all {
		t.Errorf("a knows %q, b knows %q", a, b)
	}

	// A node that comes later knows, from its first moment.
	f.join("c", server.Addr())
	f.refused(alice, "c")
	f.refused(bob, "c")
	if got := f.known("c"); got != all {
		t.Errorf("c knows %q", got)
	}

	// Another node lifts it.
	if status, body := send(t, "DELETE", f.revocations("c")+"&user=alice", ""); status != http.StatusNoContent {
		t.Errorf("got %d %s", status, body)
	}
	subscribe(t, f.at("c", "x"), alice)
	eventually(t, "the others to hear of it", func() bool { return f.known("a")+f.known("b") == "~token:b1~token:b1" })
	subscribe(t, f.at("a", "x"), alice)
	f.refused(bob, "a", "b", "c")
	if status, _ := send(t, "DELETE", f.revocations("a")+"&user=alice", ""); status != http.StatusNotFound {
		t.Errorf("lifted twice: %d", status)
	}
	mustPublish(t, f.at("a", "x"), "on")
}

func TestASessionIsRevokedAtWhateverNode(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": server.Addr()})
	alice := authtest.Bearer(t, gojwt.MapClaims{"jti": "a1"})
	atA, atB := subscribe(t, f.at("a", "x"), alice), subscribe(t, f.at("b", "x"), alice)
	id := sessionAt(t, f.hub("a"), "alice")
	nobody := subscribe(t, f.at("a", "x"))
	nobodys := sessionAt(t, f.hub("a"), "")
	other := subscribe(t, f.at("a", "x"))

	if doc := f.revoke("b", fmt.Sprintf(`{"session":%q,"for":"1h"}`, id)); doc.Streams != 1 || doc.Token != "a1" || doc.Session != id || doc.Until.IsZero() {
		t.Errorf("got %+v", doc)
	}
	atA.ended()
	atB.ended()
	f.refused(alice, "a", "b")
	if doc := f.revoke("b", fmt.Sprintf(`{"session":%q}`, nobodys)); doc.Streams != 1 || doc.Token != "" {
		t.Errorf("got %+v", doc)
	}
	nobody.ended()
	mustPublish(t, f.at("b", "x"), "on")
	other.expect("on")

	of, _, _ := strings.Cut(id, ".")
	revocation := func(session string) (int, string) {
		return post(t, f.revocations("b"), fmt.Sprintf(`{"session":%q}`, session))
	}
	if status, body := revocation(of + ".none"); status != 404 || !strings.Contains(body, "no-session") {
		t.Errorf("an unknown session: %d %s", status, body)
	}
	// Of a node that is not there nobody can tell, until it is known who is.
	eventually(t, "the nodes to be known", func() bool {
		_, known := f.hub("b").Broker().Members()
		return known
	})
	for _, session := range []string{"none", "none.x"} {
		if status, body := revocation(session); status != 404 || !strings.Contains(body, "no-session") {
			t.Errorf("%q: %d %s", session, status, body)
		}
	}
}

// A node that is cut off goes on with what it knows. Once it is not, nobody
// stays who was revoked meanwhile.
func TestANodeThatWasCutOffHearsWhoWasRevoked(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": way.Addr()})
	iat := time.Now().Unix() - 10
	alice := authtest.Bearer(t, gojwt.MapClaims{"iat": iat})
	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob", "iat": iat})
	atB, bobA := subscribe(t, f.at("b", "x"), alice), subscribe(t, f.at("a", "x"), bob)
	way.Cut()
	eventually(t, "the node to know that it is cut off", func() bool {
		_, stale := f.hub("b").Broker().Stale()
		return stale
	})
	f.revoke("a", `{"user":"alice"}`)
	another := subscribe(t, f.at("b", "x"), alice) // who could know?

	// What is revoked there holds there, and whoever does it is told.
	bobB := subscribe(t, f.at("b", "x"), bob)
	status, body := post(t, f.revocations("b"), `{"user":"bob"}`)
	bobB.ended()
	if status != 503 || !strings.Contains(body, `"detail":"it is in force on one node, and the others were not told`) || strings.Contains(body, "outcome") {
		t.Errorf("got %d %s", status, body)
	}
	f.refused(bob, "b")
	if got := f.known("b"); got != "user:bob untold" {
		t.Errorf("b knows %q", got)
	}
	status, body = send(t, "DELETE", f.revocations("b")+"&user=bob", "")
	if status != 503 || !strings.Contains(body, "it was not lifted") {
		t.Errorf("got %d %s", status, body)
	}
	f.refused(bob, "b")
	subscribe(t, f.at("a", "x"), bob)

	way.Heal()
	atB.ended()
	another.ended()
	f.refused(alice, "b")
	if a, b := f.known("a"), f.known("b"); a != "user:alice" || b != "user:alice, user:bob untold" {
		t.Errorf("a knows %q, b knows %q", a, b)
	}
	eventually(t, "it to be told when it is done again", func() bool {
		status, _ := post(t, f.revocations("b"), `{"user":"bob"}`)
		return status == http.StatusOK
	})
	bobA.ended()
	f.refused(bob, "a", "b")
	const all = "user:alice, user:bob"
	eventually(t, "all to know all", func() bool { return f.known("a") == all && f.known("b") == all })

	// One that nobody else was told of can be lifted like any other.
	way.Cut()
	post(t, f.revocations("b"), `{"user":"carol"}`)
	way.Heal()
	eventually(t, "it to be lifted", func() bool {
		status, _ := send(t, "DELETE", f.revocations("b")+"&user=carol", "")
		return status == http.StatusNoContent
	})
	if got := f.known("b"); got != all {
		t.Errorf("b knows %q", got)
	}
}

// Before a node has read who is revoked, it lets in nobody who could be.
func TestANodeThatHasNotReadTheLogLetsNobodyIn(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	f := startFleet(t, map[string]string{"a": server.Addr()})
	alice := authtest.Bearer(t, gojwt.MapClaims{"iat": time.Now().Unix() - 10})
	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob"})
	f.revoke("a", `{"user":"alice"}`)
	way.Cut()
	f.ways["b"] = way.Addr()
	if err := reload(t, f.config()); err != nil {
		t.Fatal(err)
	}
	for _, who := range []func(*http.Request){alice, bob} {
		if s := connect(t, f.at("b", "x"), who); s.status != http.StatusOK {
			t.Errorf("a stream: %d", s.status)
		} else {
			s.ended() // it is asked to come back
		}
		if status, body := post(t, f.at("b", "x"), "x", who); status != http.StatusServiceUnavailable {
			t.Errorf("publishing: %d %s", status, body)
		}
	}
	way.Heal()
	f.await("b")
	f.refused(alice, "b")
	subscribe(t, f.at("b", "x"), bob)
}

// What Redis loses, all nodes lose.
func TestALogThatLosesWhoWasRevoked(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": server.Addr()})
	alice := authtest.Bearer(t, gojwt.MapClaims{"iat": time.Now().Unix() - 10})
	f.revoke("a", `{"user":"alice"}`)
	f.refused(alice, "a")
	eventually(t, "b to hear of it", func() bool { return f.known("b") == "user:alice" })
	if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the nodes to know what the log knows", func() bool { return f.known("a") == "" && f.known("b") == "" })
	eventually(t, "it to be revoked again", func() bool {
		status, _ := post(t, f.revocations("b"), `{"user":"alice"}`)
		return status == http.StatusOK
	})
	f.refused(alice, "b")
	eventually(t, "a to hear of it", func() bool { return f.known("a") == "user:alice" })
	f.refused(alice, "a")
}

func TestStreamsThatAreRevokedElsewhereAreCountedAsSuch(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": server.Addr()})
	alice := authtest.Bearer(t, nil)
	s := subscribe(t, f.at("b", "x"), alice)
	f.revoke("a", `{"user":"alice"}`)
	s.ended()
	h := f.hub("b")
	eventually(t, "it to be counted", func() bool {
		return h.Stats().Disconnects[stream.ReasonRevoked] == 1
	})
}
