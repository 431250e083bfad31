package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/stream"
)

// hubTicketNode is a node that gives tickets and shares the Redis at an address.
func hubTicketNode(t *testing.T, redis string) *Handler {
	t.Helper()
	c := redisadapter.DefaultConfig()
	c.Addresses, c.Prefix = []string{redis}, "shared"
	log, err := redisadapter.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	credentials := hubTokens()
	credentials.Tickets = &auth.Tickets{Keys: []string{"a key of thirty-two bytes or more"}}
	e := hubHandler(t, hubSetup{log: log, auth: credentials})
	hubEventually(t, "the log to be read", func() bool { return e.hub.Broker().Loaded() == nil })
	return e
}

// hubTicket asks for a ticket of alice's.
func hubTicket(t *testing.T, e *Handler) string {
	t.Helper()
	token := authtest.Sign(t, "HS256", authtest.Alice(map[string]any{"jti": "a1"}))
	var doc ticketDoc
	hubEventually(t, "a ticket", func() bool { // what is revoked may not be heard yet
		resp := hubAnswer(t, e, "POST", "/live/_tickets", "", "Authorization: Bearer "+token)
		return json.Unmarshal([]byte(hubBody(t, resp)), &doc) == nil && resp.StatusCode == http.StatusOK
	})
	return doc.Ticket
}

// A client that reconnects may come to another node, with the URL that it has.
func TestAStreamMovesWithItsTicketFromNodeToNode(t *testing.T) {
	server := redistest.Start(t)
	nodes := []*Handler{hubTicketNode(t, server.Addr()), hubTicketNode(t, server.Addr())}
	path := "/live/x?ticket=" + hubTicket(t, nodes[0])
	for i := range 4 {
		node := nodes[i%2]
		// Of two connects within a millisecond either may be taken for the later one.
		now := time.Now().UnixMilli()
		hubEventually(t, "the next millisecond", func() bool { return time.Now().UnixMilli() > now })
		hubEventually(t, "the node to hear what is revoked", func() bool {
			return hubPoll(t, node, "x", "Authorization: Bearer "+authtest.Sign(t, "HS256", authtest.Alice(nil))).StatusCode == http.StatusOK
		})
		hubStream(t, hubServer(t, node), path)
		other := nodes[(i+1)%2]
		hubEventually(t, "the stream at the other node to end", func() bool { return len(other.hub.Sessions()) == 0 })
		sessions := node.hub.Sessions()
		if len(sessions) != 1 || node.hub.Standing(sessions[0]).Caller.User != "alice" {
			t.Fatalf("there are %d streams", len(sessions))
		}
	}
	for i, want := range []uint64{2, 1} {
		if got := nodes[i].hub.Stats().Disconnects[stream.ReasonReplaced]; got != want {
			t.Errorf("node %d: %d streams were replaced, want %d", i, got, want)
		}
	}
	// The credential that the ticket was made with is taken back at the other node.
	now := time.Now()
	if _, err := nodes[0].hub.Revoke(t.Context(), &hub.Revocation{Token: "a1", At: now}, now); err != nil {
		t.Fatal(err)
	}
	hubEventually(t, "the stream to end", func() bool { return len(nodes[1].hub.Sessions()) == 0 })
	for i, node := range nodes {
		hubProblem(t, hubAnswer(t, node, "GET", path, ""), 401, "unauthorized")
		if n := len(node.hub.Sessions()); n != 0 {
			t.Errorf("node %d has %d streams", i, n)
		}
	}
}
