package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	h.initTickets(all, each)
	return h
}

// freshTicket is a ticket of an owner that may be used for the first time.
func freshTicket(id, owner string, now time.Time) *access.TicketUse {
	return &access.TicketUse{ID: id, Owner: owner, Open: now.Add(time.Minute), End: now.Add(time.Hour)}
}

// ticketsOf is how many tickets a hub has in use.
func ticketsOf(h *Hub) int {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	return h.tickets.ids.Len()
}

// usedTickets uses so many fresh tickets of an owner, and returns them.
func usedTickets(t *testing.T, h *Hub, n int, owner, client string) (list []*access.TicketUse) {
	t.Helper()
	for i := range n {
		ticket := freshTicket(fmt.Sprint(owner, client, ticketsOf(h), i), owner, time.Now())
		if err := use(h, ticket, client); err != nil {
			t.Fatalf("%s, ticket %d: %v", owner, i, err)
		}
		list = append(list, ticket)
	}
	return list
}

// remembered counts those of the tickets that are good for a reconnect.
func remembered(h *Hub, list []*access.TicketUse) (n int) {
	for _, ticket := range list {
		if err := h.MayUseTicket(ticket, ticket.Open, false); err == nil {
			n++
		}
	}
	return n
}

// Ten accounts could fill the table, and everybody else's first connect was refused
// for a day.
func TestTicketsOfSomeLeaveRoomForOthers(t *testing.T) {
	h := boundedTickets(t, 100, 10)
	victims := usedTickets(t, h, 2, "victim", "")
	all := slices.Clone(victims)
	for i := range 12 {
		all = append(all, usedTickets(t, h, 100, fmt.Sprint("mallory ", i), "")...)
	}
	if n := remembered(h, victims); n != 2 {
		t.Errorf("of 2 tickets of another %d are left", n)
	}
	late := usedTickets(t, h, 3, "late", "")
	all = append(append(all, late...), usedTickets(t, h, 100, "mallory 1", "")...)
	if n := remembered(h, late); n != 3 {
		t.Errorf("of 3 tickets that came later %d are left", n)
	}
	// Where the log tells of a ticket that was forgotten meanwhile, another one yields
	// to it, and then it goes, too: there may be some fewer than the bound.
	if n := ticketsOf(h); n < 100-2*maxTellers || n > 100 {
		t.Errorf("there are %d", n)
	}
	// The log has no more of those that are forgotten, but where two were told of at
	// once.
	toldTickets(t, h)
	facts := 0
	for _, ticket := range all {
		had, err := h.broker.RemoveFact(t.Context(), ticketKeyOf(ticket.ID).fact())
		if err != nil {
			t.Fatal(err)
		}
		if had {
			facts++
		}
	}
	if facts < 100-2*maxTellers || facts > 100+maxTellers {
		t.Errorf("the log has %d", facts)
	}
}

// Of the tickets that a bearer has asked for on behalf of many each client's address
// has a share; where that is not known, they are in many.
func TestTicketsWithoutAnOwnerAreSharedByAddress(t *testing.T) {
	h := boundedTickets(t, 1000, 10)
	victims := usedTickets(t, h, 2, "", "198.51.100.7")
	attack := append(usedTickets(t, h, 500, "", "203.0.113.9"), usedTickets(t, h, 500, "", "2001:db8::1")...)
	attack = append(attack, usedTickets(t, h, 500, "", "2001:db8::2")...)
	// Two networks have a share of ten each, of which some may have yielded to tickets
	// that the log told of late.
	if n, left := remembered(h, victims), remembered(h, attack); n != 2 || left > 20 || left == 0 {
		t.Errorf("%d of 2 are left, and %d of the attack's", n, left)
	}
	if n := remembered(h, usedTickets(t, h, 100, "", "127.0.0.1")); n < 80 {
		t.Errorf("of 100 clients of a proxy on this host %d are left", n)
	}
}

// A ticket whose stream is here does not make room as long as another can.
func TestATicketWithAStreamStays(t *testing.T) {
	h := boundedTickets(t, 100, 3)
	now := time.Now()
	ticket := freshTicket("live", "alice", now)
	s := testSession(t, h, "127.0.0.1")
	if err := addFor(h, s, &access.Caller{User: "alice", TokenID: "live", Method: access.ByTicket, Ticket: ticket}); err != nil {
		t.Fatal(err)
	}
	usedTickets(t, h, 20, "alice", "")
	if remembered(h, []*access.TicketUse{ticket}) != 1 {
		t.Error("it is forgotten")
	}
	h.Remove(s)
	usedTickets(t, h, 20, "alice", "")
	if remembered(h, []*access.TicketUse{ticket}) != 0 {
		t.Error("it is remembered without a stream")
	}
}

// What is forgotten is no second stream: it is used again for the first time as long
// as it is fresh, and later not at all. The log is told of each use before the next one
// comes: else it may tell of a ticket that was forgotten meanwhile, which takes the place
// of the other, and is good for longer.
func TestATicketThatIsForgottenIsForOneStreamStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := boundedTickets(t, 100, 1)
		ticket := freshTicket("1", "alice", time.Now())
		stream1 := func() *Session {
			s := testSession(t, h, "127.0.0.1")
			if err := addFor(h, s, &access.Caller{User: "alice", TokenID: "1", Method: access.ByTicket, Ticket: ticket}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return s
		}
		first := stream1()
		usedTickets(t, h, 1, "alice", "")
		synctest.Wait()
		second := stream1()
		if first.Stream.Reason() != stream.ReasonReplaced || second.Stream.Reason() != "" {
			t.Errorf("they end as %q and %q", first.Stream.Reason(), second.Stream.Reason())
		}
		usedTickets(t, h, 1, "alice", "")
		synctest.Wait()
		time.Sleep(time.Minute)
		if err := use(h, ticket, ""); !errors.Is(err, access.ErrExpired) {
			t.Errorf("later: %v", err)
		}
	})
}

// Where as many as there is room for have one ticket each, one more waits.
func TestUsedTicketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := boundedTickets(t, 3, 10)
		for _, owner := range []string{"alice", "bob", "carol"} {
			usedTickets(t, h, 1, owner, "")
		}
		err := use(h, freshTicket("d", "dave", time.Now()), "")
		if !errors.Is(err, errTooManyTickets) || problem.Of(err).Status() != 503 {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Hour)
		usedTickets(t, h, 1, "dave", "")
		if got := ticketsOf(h); got != 1 {
			t.Errorf("there are %d", got)
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
