package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// boundedTickets is a hub that knows so many tickets in use, and so many of one
// owner.
func boundedTickets(t *testing.T, all, each int) *Hub {
	t.Helper()
	h, err := Open(broker.NewMemory(), Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.tickets.init(all, each)
	return h
}

// freshTicket is a ticket of an owner that may be used for the first time.
func freshTicket(id, owner string, now time.Time) *access.TicketUse {
	return &access.TicketUse{ID: id, Owner: owner, Open: now.Add(time.Minute), End: now.Add(time.Hour)}
}

func refusedAsTooMany(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errTooManyTickets) || problem.Of(err).Status() != 503 {
		t.Errorf("got %v", err)
	}
}

func TestUsedTicketsAreBounded(t *testing.T) {
	h, now := boundedTickets(t, 1, 10), time.Now()
	first := freshTicket("1", "alice", now)
	if err := h.useTicket(first, now); err != nil {
		t.Fatal(err)
	}
	refusedAsTooMany(t, h.useTicket(freshTicket("2", "alice", now), now))
	if err := h.useTicket(first, now); err != nil {
		t.Errorf("one that is in use: %v", err)
	}
}

// One user cannot use up the tickets of all, and gets new ones when the old ones
// have expired.
func TestUsedTicketsOfOneUserAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n := boundedTickets(t, 100, 3), 0
		connect := func(owner string) error {
			n++
			return h.useTicket(freshTicket(fmt.Sprint(n), owner, time.Now()), time.Now())
		}
		for range 3 {
			if err := connect("alice"); err != nil {
				t.Fatal(err)
			}
		}
		refusedAsTooMany(t, connect("alice"))
		// Named bearers, who may ask for the tickets of others, have no owner.
		for _, other := range []string{"bob", "", "", "", ""} {
			if err := connect(other); err != nil {
				t.Errorf("%q: %v", other, err)
			}
		}
		time.Sleep(time.Hour)
		if err := connect("alice"); err != nil {
			t.Errorf("later: %v", err)
		}
		h.tickets.mu.Lock()
		defer h.tickets.mu.Unlock()
		if got := h.tickets.owners["alice"]; got != 1 {
			t.Errorf("alice has %d", got)
		}
	})
}

// ticketStream is a stream that a ticket has opened.
func ticketStream(t *testing.T, h *Hub, id string) *Session {
	t.Helper()
	s, err := h.NewStream(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"a"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(stream.ReasonClient) })
	session := &Session{Stream: s, Address: "127.0.0.1"}
	if err := h.Add(session, Standing{Caller: &access.Caller{User: "alice", TokenID: id, Method: access.ByTicket}}); err != nil {
		t.Fatal(err)
	}
	return session
}

func (h *Hub) ticketedStreams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ticketed)
}

func TestAStreamIsReplacedByTheNextOfItsTicket(t *testing.T) {
	h := boundedTickets(t, 10, 10)
	first, other := ticketStream(t, h, "1"), ticketStream(t, h, "2")
	again := ticketStream(t, h, "1")
	if first.Stream.Reason() != stream.ReasonReplaced || other.Stream.Reason() != "" || again.Stream.Reason() != "" {
		t.Errorf("they end as %q, %q and %q", first.Stream.Reason(), other.Stream.Reason(), again.Stream.Reason())
	}
	h.Remove(first)
	if n := h.ticketedStreams(); n != 2 {
		t.Errorf("there are %d streams of tickets, want 2", n)
	}
	h.Remove(again)
	if n := h.ticketedStreams(); n != 1 {
		t.Errorf("there are %d streams of tickets, want 1", n)
	}
}

// A reload may find another credential in the request of a stream that a ticket
// has opened.
func TestATicketIsForgottenWithItsStream(t *testing.T) {
	h := boundedTickets(t, 10, 10)
	s := ticketStream(t, h, "1")
	if !h.SetStanding(s, nil, Standing{Caller: &access.Caller{User: "alice", TokenID: "17", Method: access.ByToken}}) {
		t.Fatal("its standing is another's")
	}
	h.Remove(s)
	if n := h.ticketedStreams(); n != 0 {
		t.Errorf("its ticket is there still: %d", n)
	}
}
