package hub

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
)

// TestMembersOfANodeThatDiesLeave has a node cut off from a real log, as one that was
// killed: it says nothing more, and its lease ends.
func TestMembersOfANodeThatDiesLeave(t *testing.T) {
	t.Parallel() // it waits for the lease
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr())
	o, mute := new(toldMembers), new(toldMembers)
	start := func(address string, o Observer) *Hub {
		c := redisadapter.DefaultConfig()
		c.Addresses = []string{address}
		log, err := redisadapter.Open(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h := hubOn(t, log, Config{Presence: presenceRules(t, "**"), Logger: slog.New(slog.DiscardHandler)})
		eventually(t, "the node to be loaded", func() bool { return h.Broker().Loaded() == nil })
		h.Observe(o, false, true)
		return h
	}
	lives, dies := start(server.Addr(), o), start(proxy.Addr(), mute)
	presenceOf(t, lives, "ann", "a")
	presenceOf(t, dies, "ann", "a")
	presenceOf(t, dies, "bob", "a")
	eventually(t, "the members of both nodes", func() bool { return present(lives, "a") == "[ann:2 bob:1] 2" })
	eventually(t, "who has joined to be told", func() bool {
		return o.count("ann joined a")+mute.count("ann joined a") == 1 && o.count("bob joined a")+mute.count("bob joined a") == 1
	})
	proxy.Cut()
	eventually(t, "the members of the dead node to be gone", func() bool { return present(lives, "a") == "[ann:1] 1" })
	eventually(t, "who has left to be told", func() bool { return o.count("bob left a") == 1 })
	if o.count("ann left a") != 0 || mute.count("bob left a") != 0 {
		t.Errorf("it is told %q, and at the dead node %q", o.all(), mute.all())
	}
}
