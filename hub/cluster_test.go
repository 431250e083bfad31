package hub

import (
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

func TestWhatCannotBeReadInTheLogIsPassedOver(t *testing.T) {
	h := testHub(t, Config{})
	alice := Revocation{User: "alice", At: time.Now()}
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
		h.onNotice(n)
	}
	if got := h.revocations.list(time.Now()); len(got) > 0 {
		t.Errorf("revoked are %+v", got)
	}
	if n := h.tickets.ids.Len(); n > 0 {
		t.Errorf("%d tickets are in use", n)
	}
	h.onNotice(factOf(t, alice)) // it goes on
	if got := h.revocations.list(time.Now()); len(got) != 1 {
		t.Errorf("revoked are %+v", got)
	}
}
