package hub

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/stream"
)

// presenceRules give channels that match a pattern presence.
func presenceRules(t testing.TB, pattern string) *presence.Rules {
	t.Helper()
	rules, err := presence.NewRules([]presence.Rule{{Pattern: pattern, Policy: new(presence.Policy)}})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// presenceOf takes in a stream of a user.
func presenceOf(t testing.TB, h *Hub, user string, channels ...string) *Session {
	t.Helper()
	st, err := h.NewStream(stream.Options{Subscribe: subscription(channels...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close(stream.ReasonClient) })
	s := &Session{Stream: st, Address: "192.0.2.1"}
	if err := addFor(h, s, &access.Caller{User: user, Method: access.ByToken}); err != nil {
		t.Fatal(err)
	}
	return s
}

// endSession ends a stream as one that was served.
func endSession(h *Hub, s *Session, why stream.Reason) {
	s.Stream.Close(why)
	h.Remove(s)
}

// present are the members of a channel, each with the number of its sessions.
func present(h *Hub, name string) string {
	page := h.Present(name, "", presence.MaxMembers)
	list := []string{}
	for _, m := range page.Members {
		list = append(list, fmt.Sprintf("%s:%d", m.User, m.Sessions))
	}
	return fmt.Sprint(list, page.Count)
}

func wantPresent(t *testing.T, h *Hub, name, want string) {
	t.Helper()
	if got := present(h, name); got != want {
		t.Errorf("in %s is %s, and not %s", name, got, want)
	}
}

func TestSessionsArePresentWhereTheyRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(broker.NewMemory(), Config{Presence: presenceRules(t, "chat/**")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		s := presenceOf(t, h, "ann", "chat/1", "chat/*", "other")
		if s.present() == nil || presenceOf(t, h, "ann", "other").present() != nil {
			t.Error("sessions are kept for presence where they should not be, or not where they should")
		}
		wantPresent(t, h, "chat/1", "[ann:1] 1")
		wantPresent(t, h, "chat/2", "[] 0")
		// As a session joins and leaves channels.
		h.mu.Lock()
		h.joinPresence(s, "chat/2")
		h.joinPresence(s, "more")
		h.leavePresence(s, "chat/1")
		h.mu.Unlock()
		wantPresent(t, h, "chat/2", "[ann:1] 1")
		wantPresent(t, h, "chat/1", "[ann:0] 1")
		time.Sleep(6 * time.Second)
		wantPresent(t, h, "chat/1", "[] 0")
		if got := h.Stats().Presence; got.Members != 1 || got.Channels != 1 {
			t.Errorf("it counts %+v", got)
		}
		// A stream that was never served was never there.
		h.Withdraw(s)
		wantPresent(t, h, "chat/2", "[] 0")
	})
}

func TestSessionsThatWereToldToReconnectAreMissedLater(t *testing.T) {
	for why, hold := range map[stream.Reason]time.Duration{
		stream.ReasonClient: 5 * time.Second, stream.ReasonSlow: 5 * time.Second, stream.ReasonEnded: 5 * time.Second, stream.ReasonRevoked: 5 * time.Second,
		stream.ReasonShutdown: 10 * time.Second, stream.ReasonReload: 10 * time.Second, stream.ReasonAge: 10 * time.Second, stream.ReasonExpired: 10 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			h, err := Open(broker.NewMemory(), Config{Presence: presenceRules(t, "a")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = h.Close() }()
			s := presenceOf(t, h, "ann", "a")
			endSession(h, s, why)
			time.Sleep(hold - time.Millisecond)
			wantPresent(t, h, "a", "[ann:0] 1")
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			wantPresent(t, h, "a", "[] 0")
		})
	}
}

func TestAReloadGivesAndTakesPresence(t *testing.T) {
	h := testHub(t, Config{})
	s := presenceOf(t, h, "ann", "a", "b")
	wantPresent(t, h, "a", "[] 0")
	for _, tt := range []struct{ pattern, a, b string }{{"a", "[ann:1] 1", "[] 0"}, {"b", "[] 0", "[ann:1] 1"}, {"*", "[ann:1] 1", "[ann:1] 1"}} {
		if err := h.SetConfig(Config{Presence: presenceRules(t, tt.pattern)}); err != nil {
			t.Fatal(err)
		}
		wantPresent(t, h, "a", tt.a)
		wantPresent(t, h, "b", tt.b)
	}
	// The new rules may find that the stream is somebody else's.
	if !h.SetStanding(s, nil, Standing{Caller: &access.Caller{User: "bob"}}) {
		t.Fatal("its owner is another")
	}
	wantPresent(t, h, "a", "[bob:1] 1")
	if err := h.SetConfig(Config{}); err != nil {
		t.Fatal(err)
	}
	if got := h.Stats().Presence; got != (presence.Stats{}) {
		t.Errorf("without presence it counts %+v", got)
	}
}

// TestPresenceOverThreeNodes is over a real log, with a node that dies.
func TestPresenceOverThreeNodes(t *testing.T) {
	server := redistest.Start(t)
	var nodes []*Hub
	for range 3 {
		c := redisadapter.DefaultConfig()
		c.Addresses = []string{server.Addr()}
		log, err := redisadapter.Open(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h := hubOn(t, log, Config{Presence: presenceRules(t, "**"), Logger: slog.New(slog.DiscardHandler)})
		eventually(t, "the node to be loaded", func() bool { return h.Broker().Loaded() == nil })
		nodes = append(nodes, h)
	}
	bob := presenceOf(t, nodes[1], "bob", "a")
	presenceOf(t, nodes[0], "ann", "a")
	ann := presenceOf(t, nodes[1], "ann", "a", "b")
	presenceOf(t, nodes[2], "cleo", "b")
	everywhere := func(name, want string) {
		t.Helper()
		for _, h := range nodes {
			eventually(t, "the members "+want+" of "+name, func() bool { return present(h, name) == want })
		}
	}
	everywhere("a", "[ann:2 bob:1] 2")
	everywhere("b", "[ann:1 cleo:1] 2")
	meta, err := presence.CheckMeta([]byte(`{"x":"<"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[2].SetPresent(t.Context(), access.AnonymousCaller(), bob.Stream.ID(), "a", meta); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].SetPresent(t.Context(), &access.Caller{User: "cleo"}, "", "b", json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
	for _, h := range nodes {
		eventually(t, "the metadata", func() bool {
			a, b := h.Present("a", "ann", 1), h.Present("b", "ann", 1)
			return string(a.Members[0].Meta) == `{"x":"<"}` && string(b.Members[0].Meta) == `{}`
		})
	}
	// A node leaves: its members are held, because their clients come back to others.
	endSession(nodes[1], bob, stream.ReasonShutdown)
	endSession(nodes[1], ann, stream.ReasonShutdown)
	if err := nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	nodes = slices.Delete(nodes, 1, 2)
	everywhere("a", "[ann:1 bob:0] 2")
	presenceOf(t, nodes[0], "bob", "a")
	everywhere("a", "[ann:1 bob:1] 2")
	everywhere("b", "[ann:0 cleo:1] 2")
}
