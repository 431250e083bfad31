package hub

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/stream"
)

// ticketNode is a node that shares the Redis at an address.
func ticketNode(t *testing.T, redis string) *Hub {
	t.Helper()
	c := redisadapter.DefaultConfig()
	c.Addresses, c.Prefix = []string{redis}, "shared"
	log, err := redisadapter.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return hubOn(t, log, Config{Logger: slog.New(slog.DiscardHandler)})
}

// givenTicket is a fresh ticket of alice's.
func givenTicket() access.TicketUse {
	now := time.Now()
	return access.TicketUse{ID: rand.Text(), Owner: "alice's digest", Open: now.Add(time.Minute), End: now.Add(time.Hour)}
}

// aged is a ticket after the time for which it is fresh.
func aged(ticket access.TicketUse) access.TicketUse {
	ticket.Open = time.Now()
	return ticket
}

// use uses a ticket, as Add does for a client of an address.
func use(h *Hub, t *access.TicketUse, client string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.useTicket(t, client, time.Now())
}

// connectTicket lets in who comes with a ticket, if it is good.
func connectTicket(h *Hub, ticket access.TicketUse) (*access.Caller, error) {
	if err := use(h, &ticket, "127.0.0.1"); err != nil {
		return nil, err
	}
	return &access.Caller{User: "alice", TokenID: ticket.ID, Method: access.ByTicket, Expires: ticket.End}, nil
}

// streamOf opens a stream that nobody serves with a ticket.
func streamOf(t *testing.T, h *Hub, ticket access.TicketUse) *Session {
	t.Helper()
	who, err := connectTicket(h, ticket)
	if err != nil {
		t.Fatal(err)
	}
	s := testSession(t, h, "127.0.0.1")
	if err := addFor(h, s, who); err != nil {
		t.Fatal(err)
	}
	return s
}

// toldTickets waits until a node has told the log of all tickets.
func toldTickets(t *testing.T, h *Hub) {
	t.Helper()
	eventually(t, "the log to be told", func() bool {
		h.tickets.mu.Lock()
		defer h.tickets.mu.Unlock()
		return h.tickets.tellers == 0
	})
}

func TestATicketInUseIsGoodAtAllNodes(t *testing.T) {
	server := redistest.Start(t)
	a, b := ticketNode(t, server.Addr()), ticketNode(t, server.Addr())
	for _, node := range []*Hub{a, b} { // what is not fresh nobody judges before
		eventually(t, "the log to be read", node.cluster.hasSettled)
	}
	used, unused := givenTicket(), givenTicket()
	if _, err := connectTicket(a, used); err != nil {
		t.Fatal(err)
	}
	toldTickets(t, a)
	later := ticketNode(t, server.Addr())
	eventually(t, "the log to be read", later.cluster.hasSettled)
	for name, node := range map[string]*Hub{"a": a, "b": b, "a node that comes later": later} {
		if _, err := connectTicket(node, aged(used)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := connectTicket(node, aged(unused))
		refusedWith(t, err, http.StatusUnauthorized)
		node.tickets.mu.Lock()
		if got := node.tickets.ids.LenOf(used.Owner); got != 1 {
			t.Errorf("%s: alice has %d", name, got)
		}
		node.tickets.mu.Unlock()
	}
}

func TestATicketHasOneStreamAtAllNodes(t *testing.T) {
	server := redistest.Start(t)
	a, b := ticketNode(t, server.Addr()), ticketNode(t, server.Addr())
	ticket, other := givenTicket(), givenTicket()
	bystander := streamOf(t, a, other)
	replaced := func(s *Session) {
		t.Helper()
		select {
		case <-s.Stream.Done():
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
		if s.Stream.Reason() != stream.ReasonReplaced {
			t.Errorf("it ended: %s", s.Stream.Reason())
		}
	}
	last := streamOf(t, a, ticket)
	toldTickets(t, a)
	for i := range 4 {
		node := []*Hub{b, a}[i%2]
		next := streamOf(t, node, ticket)
		replaced(last)
		last = next
		toldTickets(t, node)

		// One that comes back to the same node is no news to the others.
		next = streamOf(t, node, ticket)
		node.tickets.mu.Lock()
		if node.tickets.tellers != 0 {
			t.Error("the log is told")
		}
		node.tickets.mu.Unlock()
		replaced(last)
		last = next
	}
	for _, s := range []*Session{last, bystander} {
		select {
		case <-s.Stream.Done():
			t.Errorf("it ended: %s", s.Stream.Reason())
		default:
		}
	}
}

// Of two nodes that a ticket comes to at the same moment, one keeps its stream:
// the same one for both.
func TestATicketThatComesToTwoNodesAtOnceHasOneStream(t *testing.T) {
	server := redistest.Start(t)
	nodes := [2]*Hub{ticketNode(t, server.Addr()), ticketNode(t, server.Addr())}
	for range 50 {
		ticket := givenTicket()
		var streams [2]*Session
		var coming sync.WaitGroup
		for i, node := range nodes {
			s := testSession(t, node, "127.0.0.1")
			streams[i] = s
			coming.Go(func() {
				who, err := connectTicket(node, ticket)
				if err != nil {
					t.Error(err)
					return
				}
				if err := addFor(node, s, who); err != nil {
					t.Error(err)
				}
			})
		}
		coming.Wait()
		for _, node := range nodes {
			toldTickets(t, node)
		}
		var holders [2]string
		eventually(t, "both nodes to have heard of both", func() bool {
			for i, node := range nodes {
				u := &node.tickets
				u.mu.Lock()
				at, _, _ := u.ids.Entry(ticketKeyOf(ticket.ID))
				holders[i] = at.Node
				u.mu.Unlock()
			}
			return holders[0] == holders[1]
		})
		for i, node := range nodes {
			if holders[0] == node.Broker().Node() {
				if got := streams[i].Stream.Reason(); got != "" {
					t.Fatalf("the last one ended: %s", got)
				}
				continue
			}
			<-streams[i].Stream.Done()
		}
		for i, node := range nodes {
			streams[i].Stream.Close(stream.ReasonClient)
			node.Remove(streams[i])
		}
	}
}

// A node may hear late of where a ticket was, and its clock may be another.
func TestTheStreamThatATicketCameToLastStays(t *testing.T) {
	h := testHub(t, Config{})
	end := time.Now().Add(time.Hour)
	ticket := givenTicket()
	s := streamOf(t, h, ticket)
	key := ticketKeyOf(ticket.ID)
	standing := func() usedTicket {
		h.tickets.mu.Lock()
		defer h.tickets.mu.Unlock()
		used, _, _ := h.tickets.ids.Entry(key)
		return used
	}
	here := standing()
	if here.Owner != ticket.Owner {
		t.Errorf("its owner is %q", here.Owner)
	}
	hear := func(at int64) {
		t.Helper()
		data, err := json.Marshal(usedTicket{Node: "b", At: at})
		if err != nil {
			t.Fatal(err)
		}
		h.onNotice(broker.Notice{About: key.fact(), Data: data, Until: end, Fact: true})
	}
	hear(here.At - 1)
	if got := s.Stream.Reason(); got != "" || standing() != here {
		t.Errorf("by older news it ended: %s, %+v", got, standing())
	}
	hear(end.UnixMilli() + 1) // of no clock
	if got := s.Stream.Reason(); got != "" || standing() != here {
		t.Errorf("by impossible news it ended: %s, %+v", got, standing())
	}
	ahead := here.At + 100_000
	hear(ahead)
	if got := s.Stream.Reason(); got != stream.ReasonReplaced || standing().Node != "b" || standing().Owner != here.Owner {
		t.Errorf("by newer news it ended: %q, %+v", got, standing())
	}
	next := streamOf(t, h, ticket)
	if got := standing(); got.Node != "" || got.At != ahead+1 {
		t.Errorf("back here it stands as %+v", got)
	}
	hear(ahead)
	if got := next.Stream.Reason(); got != "" {
		t.Errorf("by news that were known it ended: %s", got)
	}
}

// Of a ticket that another node may have seen, a node that is cut off says
// neither yes nor no. What it sees meanwhile, it tells when it can.
func TestTicketsWhileANodeIsCutOff(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	a, b := ticketNode(t, server.Addr()), ticketNode(t, way.Addr())
	for _, node := range []*Hub{a, b} {
		eventually(t, "the log to be read", node.cluster.hasSettled)
	}
	way.Cut()
	eventually(t, "the node to know that it is cut off", func() bool {
		_, stale := b.Broker().Stale()
		return stale
	})
	atA, atB := givenTicket(), givenTicket()
	if _, err := connectTicket(a, atA); err != nil {
		t.Fatal(err)
	}
	here := streamOf(t, b, atB)
	atA, atB = aged(atA), aged(atB)
	_, err := connectTicket(b, atA)
	refusedWith(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, ErrBehind) {
		t.Errorf("got %v", err)
	}
	_, err = connectTicket(a, atB) // which is not cut off
	refusedWith(t, err, http.StatusUnauthorized)
	late := ticketNode(t, way.Addr())
	_, err = connectTicket(late, atA)
	refusedWith(t, err, http.StatusServiceUnavailable)
	// However long that takes: what comes after the tickets has been given up.
	if err := b.Broker().Tell(t.Context(), "nothing", nil); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("telling nothing: %v", err)
	}

	way.Heal()
	for name, tt := range map[string]struct {
		node   *Hub
		ticket access.TicketUse
	}{"b": {b, atA}, "a": {a, atB}, "late": {late, atA}, "late, of b": {late, atB}} {
		eventually(t, name+" to accept the ticket", func() bool {
			_, err := connectTicket(tt.node, tt.ticket)
			return err == nil
		})
	}
	if got := here.Stream.Reason(); got != "" {
		t.Errorf("the stream ended: %s", got)
	}
	streamOf(t, a, atB)
	<-here.Stream.Done()
}
