package evstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/stream"
)

// ticketNode is a node that gives tickets, which are good for a first connect
// for a second, and shares the Redis at an address.
func ticketNode(t *testing.T, redis string) *access {
	t.Helper()
	h := ticketed("a key of thirty-two bytes or more")
	h.Tickets.Lifetime = caddy.Duration(time.Second)
	adapter := &RedisAdapter{URL: "redis://" + redis, Prefix: "shared"}
	if err := adapter.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	a, err := openAccessOf(t, h, adapter)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// connectTicket identifies who comes with a ticket.
func connectTicket(a *access, ticket string) (caller, error) {
	return a.identify(requestFor("GET", "hub.example", "ticket="+ticket))
}

// streamOf opens a stream that nobody serves with a ticket.
func streamOf(t *testing.T, a *access, ticket string) *live {
	t.Helper()
	who, err := connectTicket(a, ticket)
	if err != nil {
		t.Fatal(err)
	}
	l := testLive(t, a.hub, "127.0.0.1")
	l.who = who.kept()
	if err := a.hub.add(l); err != nil {
		t.Fatal(err)
	}
	return l
}

// givenTicket makes a ticket at a node, and says when it is not fresh any more.
func givenTicket(t *testing.T, a *access) (ticket string, stale time.Time) {
	t.Helper()
	who := aliceToken(t, a, gojwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()})
	return sealFor(t, a, who, requestFor("POST", "hub.example", "")), time.Now().Add(time.Second)
}

func awaitTime(t *testing.T, at time.Time) {
	t.Helper()
	eventually(t, "time to pass", func() bool { return time.Now().After(at) })
}

// toldTickets waits until a node has told the log of all tickets.
func toldTickets(t *testing.T, a *access) {
	t.Helper()
	eventually(t, "the log to be told", func() bool {
		a.hub.used.mu.Lock()
		defer a.hub.used.mu.Unlock()
		return a.hub.used.tellers == 0
	})
}

func TestATicketInUseIsGoodAtAllNodes(t *testing.T) {
	server := redistest.Start(t)
	a, b := ticketNode(t, server.Addr()), ticketNode(t, server.Addr())
	used, _ := givenTicket(t, a)
	unused, stale := givenTicket(t, a)
	if _, err := connectTicket(a, used); err != nil {
		t.Fatal(err)
	}
	toldTickets(t, a)
	awaitTime(t, stale)
	for name, node := range map[string]*access{"a": a, "b": b, "a node that comes later": ticketNode(t, server.Addr())} {
		if _, err := connectTicket(node, used); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := connectTicket(node, unused)
		refusedWith(t, err, http.StatusUnauthorized)
		node.hub.used.mu.Lock()
		if got := node.hub.used.owners[(&ticket{User: "alice"}).owner()]; got != 1 {
			t.Errorf("%s: alice has %d", name, got)
		}
		node.hub.used.mu.Unlock()
	}
}

func TestATicketHasOneStreamAtAllNodes(t *testing.T) {
	server := redistest.Start(t)
	a, b := ticketNode(t, server.Addr()), ticketNode(t, server.Addr())
	ticket, _ := givenTicket(t, a)
	other, _ := givenTicket(t, a)
	bystander := streamOf(t, a, other)
	replaced := func(l *live, begun time.Time) {
		t.Helper()
		select {
		case <-l.session.Done():
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
		if took := time.Since(begun); l.session.Reason() != stream.ReasonReplaced || took > time.Second {
			t.Errorf("it ended after %s: %s", took, l.session.Reason())
		}
	}
	last := streamOf(t, a, ticket)
	toldTickets(t, a)
	for i := range 4 {
		node := []*access{b, a}[i%2]
		begun := time.Now()
		next := streamOf(t, node, ticket)
		replaced(last, begun)
		last = next
		toldTickets(t, node)

		// One that comes back to the same node is no news to the others.
		begun = time.Now()
		next = streamOf(t, node, ticket)
		node.hub.used.mu.Lock()
		if node.hub.used.tellers != 0 {
			t.Error("the log is told")
		}
		node.hub.used.mu.Unlock()
		replaced(last, begun)
		last = next
	}
	for _, l := range []*live{last, bystander} {
		select {
		case <-l.session.Done():
			t.Errorf("it ended: %s", l.session.Reason())
		default:
		}
	}
}

// Of two nodes that a ticket comes to at the same moment, one keeps its stream:
// the same one for both.
func TestATicketThatComesToTwoNodesAtOnceHasOneStream(t *testing.T) {
	server := redistest.Start(t)
	nodes := [2]*access{ticketNode(t, server.Addr()), ticketNode(t, server.Addr())}
	for range 50 {
		ticket, _ := givenTicket(t, nodes[0])
		var streams [2]*live
		var coming sync.WaitGroup
		for i, node := range nodes {
			l := testLive(t, node.hub, "127.0.0.1")
			streams[i] = l
			coming.Go(func() {
				who, err := connectTicket(node, ticket)
				if err != nil {
					t.Error(err)
				}
				l.who = who.kept()
				if err := node.hub.add(l); err != nil {
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
				u := &node.hub.used
				u.mu.Lock()
				holders[i] = u.ids.entries[ticketKeyOf(streams[i].who.tokenID)].value.Node
				u.mu.Unlock()
			}
			return holders[0] == holders[1]
		})
		for i, node := range nodes {
			if holders[0] == node.hub.broker.Node() {
				if got := streams[i].session.Reason(); got != "" {
					t.Fatalf("the last one ended: %s", got)
				}
				continue
			}
			<-streams[i].session.Done()
		}
		for i, node := range nodes {
			streams[i].session.Close(stream.ReasonClient)
			node.hub.remove(streams[i])
		}
	}
}

// A node may hear late of where a ticket was, and its clock may be another.
func TestTheStreamThatATicketCameToLastStays(t *testing.T) {
	a := accessOf(t, ticketed())
	h := a.hub
	end := time.Now().Add(time.Hour)
	ticket, _ := givenTicket(t, a)
	l := streamOf(t, a, ticket)
	key := ticketKeyOf(l.who.tokenID)
	standing := func() usedTicket {
		h.used.mu.Lock()
		defer h.used.mu.Unlock()
		return h.used.ids.entries[key].value
	}
	here := standing()
	hear := func(at int64) {
		t.Helper()
		data, err := json.Marshal(usedTicket{Node: "b", At: at})
		if err != nil {
			t.Fatal(err)
		}
		h.hear(broker.Notice{About: key.fact(), Data: data, Until: end, Fact: true})
	}
	hear(here.At - 1)
	if got := l.session.Reason(); got != "" || standing() != here {
		t.Errorf("by older news it ended: %s, %+v", got, standing())
	}
	hear(end.UnixMilli() + 1) // of no clock
	if got := l.session.Reason(); got != "" || standing() != here {
		t.Errorf("by impossible news it ended: %s, %+v", got, standing())
	}
	ahead := here.At + 100_000
	hear(ahead)
	if got := l.session.Reason(); got != stream.ReasonReplaced || standing().Node != "b" || standing().Owner != here.Owner {
		t.Errorf("by newer news it ended: %q, %+v", got, standing())
	}
	next := streamOf(t, a, ticket)
	if got := standing(); got.Node != "" || got.At != ahead+1 {
		t.Errorf("back here it stands as %+v", got)
	}
	hear(ahead)
	if got := next.session.Reason(); got != "" {
		t.Errorf("by news that were known it ended: %s", got)
	}
}

// Of a ticket that another node may have seen, a node that is cut off says
// neither yes nor no. What it sees meanwhile, it tells when it can.
func TestTicketsWhileANodeIsCutOff(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	a, b := ticketNode(t, server.Addr()), ticketNode(t, way.Addr())
	way.Cut()
	eventually(t, "the node to know that it is cut off", func() bool {
		_, stale := b.hub.broker.Stale()
		return stale
	})
	atA, _ := givenTicket(t, a)
	atB, stale := givenTicket(t, b)
	if _, err := connectTicket(a, atA); err != nil {
		t.Fatal(err)
	}
	here := streamOf(t, b, atB)
	awaitTime(t, stale)
	_, err := connectTicket(b, atA)
	refusedWith(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, errBehind) {
		t.Errorf("got %v", err)
	}
	_, err = connectTicket(a, atB) // which is not cut off
	refusedWith(t, err, http.StatusUnauthorized)
	late := ticketNode(t, way.Addr())
	_, err = connectTicket(late, atA)
	refusedWith(t, err, http.StatusServiceUnavailable)
	// However long that takes: what comes after the tickets has been given up.
	if err := b.hub.broker.Tell(t.Context(), "nothing", nil); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("telling nothing: %v", err)
	}

	way.Heal()
	for name, tt := range map[string]struct {
		node   *access
		ticket string
	}{"b": {b, atA}, "a": {a, atB}, "late": {late, atA}, "late, of b": {late, atB}} {
		eventually(t, name+" to accept the ticket", func() bool {
			_, err := connectTicket(tt.node, tt.ticket)
			return err == nil
		})
	}
	if got := here.session.Reason(); got != "" {
		t.Errorf("the stream ended: %s", got)
	}
	streamOf(t, a, atB)
	<-here.session.Done()
}
