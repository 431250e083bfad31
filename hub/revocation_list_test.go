package hub

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// factOf is what the log says of a revocation.
func factOf(t *testing.T, r Revocation) broker.Notice {
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
	h := testHub(t, Config{})
	at := time.Now()
	user := func(name string) *access.Caller { return &access.Caller{User: name, Issued: at.Add(-time.Hour)} }
	revoked := func(want string) {
		t.Helper()
		got := ""
		for _, name := range []string{"alice", "bob", "carol", "dave"} {
			if h.IsRevoked(user(name), at) {
				got += " " + name
			}
		}
		if got != want {
			t.Errorf("revoked are%s, want%s", got, want)
		}
	}
	var sessions []*Session
	for _, name := range []string{"carol", "erin"} {
		s := testSession(t, h, "127.0.0.1")
		if err := addFor(h, s, user(name)); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	h.onNotice(factOf(t, Revocation{User: "alice", At: at}))
	h.onNotice(factOf(t, Revocation{User: "bob", At: at}))
	if err := h.revocations.add(Revocation{User: "dave", At: at}, at); err != nil { // the log was not told yet
		t.Fatal(err)
	}
	revoked(" alice bob dave")
	h.onNotice(broker.Notice{Reset: true})
	revoked(" alice bob dave")
	for _, name := range []string{"carol", "alice", "erin"} {
		h.onNotice(factOf(t, Revocation{User: name, At: at}))
		revoked(" alice bob dave")
	}
	lifted := Revocation{User: "erin"}
	h.onNotice(broker.Notice{About: lifted.key().fact(), Fact: true})
	h.onNotice(broker.Notice{Settled: true})
	revoked(" alice carol dave")
	for i, want := range []stream.Reason{stream.ReasonRevoked, ""} {
		if got := sessions[i].Stream.Reason(); got != want {
			t.Errorf("stream %d ended as %q, want %q", i, got, want)
		}
	}
}

// What this node has revoked holds until the log says that, whatever it says of
// the same user before.
func TestWhatIsRevokedHereHoldsUntilTheLogSaysIt(t *testing.T) {
	h := testHub(t, Config{})
	rv := &h.revocations
	at := time.Now()
	between := &access.Caller{User: "alice", Issued: at.Add(-time.Minute)}
	own := Revocation{User: "alice", At: at, Until: at.Add(time.Hour)}
	older := Revocation{User: "alice", At: at.Add(-time.Hour)}
	if err := rv.add(own, at); err != nil {
		t.Fatal(err)
	}
	check := func(covered, waits bool) {
		t.Helper()
		if h.IsRevoked(between, at) != covered || rv.own.holds(own.key()) != waits {
			t.Errorf("revoked %t, waits %t", h.IsRevoked(between, at), rv.own.holds(own.key()))
		}
	}
	h.onNotice(factOf(t, older))
	check(true, true)
	h.onNotice(broker.Notice{About: own.key().fact(), Fact: true}) // somebody has lifted that one
	check(true, true)
	h.onNotice(broker.Notice{Reset: true})
	h.onNotice(factOf(t, own))
	check(true, true)
	h.onNotice(broker.Notice{Settled: true})
	check(true, false)
	h.onNotice(factOf(t, older))
	check(false, false) // the log has it that way
	if got := rv.list(at); len(got) != 1 || !got[0].At.Equal(older.At) {
		t.Errorf("listed are %+v", got)
	}
}

// A node that has read the log may not have heard yet what that says.
func TestNobodyIsLetInBeforeItIsHeardWhoIsRevoked(t *testing.T) {
	h := testHub(t, Config{})
	settled := h.cluster.settled
	h.cluster.settled = make(chan struct{})
	alice := &access.Caller{User: "alice"}
	err := h.MayEnter(alice, time.Now())
	refusedWith(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, ErrBehind) || refusal(err) != "log" {
		t.Errorf("got %v, counted as %s", err, refusal(err))
	}
	h.cluster.settled = settled
	if err := h.MayEnter(alice, time.Now()); err != nil {
		t.Error(err)
	}
	if err := h.revocations.add(Revocation{User: "alice", At: time.Now()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, h.MayEnter(alice, time.Now()), http.StatusUnauthorized)
}
