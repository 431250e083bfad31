package evstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// factOf is what the log says of a revocation.
func factOf(t *testing.T, r revocation) broker.Notice {
	t.Helper()
	data, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	return broker.Notice{About: r.key().fact(), Data: data, Until: r.Until, Fact: true}
}

// While the log tells all of it anew, whoever was revoked is, and afterwards
// whoever is by what it has told.
func TestNobodySlipsInWhileTheLogTellsAnewWhoIsRevoked(t *testing.T) {
	h := testHub(t, BrokerConfig{})
	at := time.Now()
	user := func(name string) caller { return caller{user: name, issued: at.Add(-time.Hour)} }
	revoked := func(want string) {
		t.Helper()
		got := ""
		for _, name := range []string{"alice", "bob", "carol", "dave"} {
			if h.isRevoked(user(name), at) {
				got += " " + name
			}
		}
		if got != want {
			t.Errorf("revoked are%s, want%s", got, want)
		}
	}
	var lives []*live
	for _, name := range []string{"carol", "erin"} {
		l, who := testLive(t, h, "127.0.0.1"), user(name)
		l.who = who.kept()
		if err := h.add(l); err != nil {
			t.Fatal(err)
		}
		lives = append(lives, l)
	}
	h.hear(factOf(t, revocation{User: "alice", At: at}))
	h.hear(factOf(t, revocation{User: "bob", At: at}))
	if err := h.revocations.add(revocation{User: "dave", At: at}, at); err != nil { // the log was not told yet
		t.Fatal(err)
	}
	revoked(" alice bob dave")
	h.hear(broker.Notice{Reset: true})
	revoked(" alice bob dave")
	for _, name := range []string{"carol", "alice", "erin"} {
		h.hear(factOf(t, revocation{User: name, At: at}))
		revoked(" alice bob dave")
	}
	lifted := revocation{User: "erin"}
	h.hear(broker.Notice{About: lifted.key().fact(), Fact: true})
	h.hear(broker.Notice{Settled: true})
	revoked(" alice carol dave")
	for i, want := range []stream.Reason{stream.ReasonRevoked, ""} {
		if got := lives[i].session.Reason(); got != want {
			t.Errorf("stream %d ended as %q, want %q", i, got, want)
		}
	}
}

// What this node has revoked holds until the log says that, whatever it says of
// the same user before.
func TestWhatIsRevokedHereHoldsUntilTheLogSaysIt(t *testing.T) {
	h := testHub(t, BrokerConfig{})
	rv := &h.revocations
	at := time.Now()
	between := caller{user: "alice", issued: at.Add(-time.Minute)}
	own := revocation{User: "alice", At: at, Until: at.Add(time.Hour)}
	older := revocation{User: "alice", At: at.Add(-time.Hour)}
	if err := rv.add(own, at); err != nil {
		t.Fatal(err)
	}
	check := func(covered, waits bool) {
		t.Helper()
		if h.isRevoked(between, at) != covered || rv.own.holds(own.key()) != waits {
			t.Errorf("revoked %t, waits %t", h.isRevoked(between, at), rv.own.holds(own.key()))
		}
	}
	h.hear(factOf(t, older))
	check(true, true)
	h.hear(broker.Notice{About: own.key().fact(), Fact: true}) // somebody has lifted that one
	check(true, true)
	h.hear(broker.Notice{Reset: true})
	h.hear(factOf(t, own))
	check(true, true)
	h.hear(broker.Notice{Settled: true})
	check(true, false)
	h.hear(factOf(t, older))
	check(false, false) // the log has it that way
	if got := rv.list(at); len(got) != 1 || !got[0].At.Equal(older.At) {
		t.Errorf("listed are %+v", got)
	}
}

// A node that has read the log may not have heard yet what that says.
func TestNobodyIsLetInBeforeItIsHeardWhoIsRevoked(t *testing.T) {
	a := accessOf(t, ticketed())
	settled := a.hub.others.settled
	a.hub.others.settled = make(chan struct{})
	r := requestWith(sign(t, "HS256", aliceClaims(nil)))
	_, err := a.identify(r)
	refusedWith(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, errBehind) || refusal(err) != "log" {
		t.Errorf("got %v, counted as %s", err, refusal(err))
	}
	if who, err := a.identify(requestFor("GET", "hub.example", "")); err != nil || !who.anonymous() {
		t.Errorf("nobody is %s, %v", who, err)
	}
	a.hub.others.settled = settled
	if _, err := a.identify(r); err != nil {
		t.Error(err)
	}
	if err := a.hub.revocations.add(revocation{User: "alice", At: time.Now()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = a.identify(r)
	refusedWith(t, err, http.StatusUnauthorized)
}

func TestWhatCannotBeReadInTheLogIsPassedOver(t *testing.T) {
	h := testHub(t, BrokerConfig{})
	alice := revocation{User: "alice", At: time.Now()}
	ticket := ticketKeyOf("t").fact()
	for _, n := range []broker.Notice{
		{About: "revoked/none", Data: []byte(`{"user":"alice"}`), Fact: true},
		{About: alice.key().fact() + "00", Data: factOf(t, alice).Data, Fact: true},
		{About: alice.key().fact(), Data: []byte(`[]`), Fact: true},
		{About: alice.key().fact(), Data: []byte(`{"token":"alice"}`), Fact: true},
		{About: "another/" + alice.key().fact(), Data: factOf(t, alice).Data, Fact: true},
		{About: ticket, Data: []byte(`7`), Until: time.Now().Add(time.Hour), Fact: true},
		{About: ticket, Data: []byte(`{"node":"a"}`), Fact: true},
		{About: ticket + "AAAA", Data: []byte(`{"node":"a"}`), Until: time.Now().Add(time.Hour), Fact: true},
		{About: "call", Data: []byte(`{`)},
		{About: "call", Data: []byte(`{"session":7}`)},
		{About: "answer", Data: []byte(`{`)},
		{About: "answer", Data: []byte(`{"id":"nobody's"}`)},
		{About: "what is to come", Data: []byte(`{}`)},
	} {
		h.hear(n)
	}
	if got := h.revocations.list(time.Now()); len(got) > 0 {
		t.Errorf("revoked are %+v", got)
	}
	if n := len(h.used.ids.entries); n > 0 {
		t.Errorf("%d tickets are in use", n)
	}
	h.hear(factOf(t, alice)) // it goes on
	if got := h.revocations.list(time.Now()); len(got) != 1 {
		t.Errorf("revoked are %+v", got)
	}
}
