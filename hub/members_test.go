package hub

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/stream"
)

// toldMembers keeps what an Observer is told of members.
type toldMembers struct{ told }

func (o *toldMembers) Connected(SessionEvent)    {}
func (o *toldMembers) Disconnected(SessionEvent) {}

// fewRules give all channels presence, with at most two members by name.
func fewRules(t testing.TB) *presence.Rules {
	t.Helper()
	rules, err := presence.NewRules([]presence.Rule{{Pattern: "**", Policy: &presence.Policy{Members: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestMembersJoinAndLeaveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(broker.NewMemory(), Config{Presence: presenceRules(t, "chat/*")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		o := new(toldMembers)
		wantTold := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := o.all(); !slices.Equal(got, want) {
				t.Fatalf("it is told %q, want %q", got, want)
			}
		}
		presenceOf(t, h, "early", "chat/1")
		h.Observe(o, false, true)
		wantTold("early joined chat/1") // before it was observed
		tabs := []*Session{presenceOf(t, h, "ann", "chat/1", "other"), presenceOf(t, h, "ann", "chat/1", "chat/*")}
		presenceOf(t, h, "", "chat/1") // without a name
		wantTold("early joined chat/1", "ann joined chat/1")
		endSession(h, tabs[0], stream.ReasonClient)
		time.Sleep(time.Minute)
		wantTold("early joined chat/1", "ann joined chat/1")
		endSession(h, tabs[1], stream.ReasonClient)
		time.Sleep(4 * time.Second)
		tabs[0] = presenceOf(t, h, "ann", "chat/1") // within the grace
		time.Sleep(time.Minute)
		wantTold("early joined chat/1", "ann joined chat/1")
		endSession(h, tabs[0], stream.ReasonClient)
		time.Sleep(4 * time.Second)
		wantTold("early joined chat/1", "ann joined chat/1")
		time.Sleep(2 * time.Second)
		wantTold("early joined chat/1", "ann joined chat/1", "ann left chat/1")
		// A reload takes presence, and gives it back.
		for _, rules := range []*presence.Rules{nil, presenceRules(t, "chat/1")} {
			if err := h.SetConfig(Config{Presence: rules}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		wantTold("early joined chat/1", "ann joined chat/1", "ann left chat/1", "early left chat/1", "early joined chat/1")
		// With the only node all members are gone.
		h.FlushActivity(t.Context())
		wantTold("early joined chat/1", "ann joined chat/1", "ann left chat/1", "early left chat/1", "early joined chat/1", "early left chat/1")
		h.Observe(nil, false, false)
		presenceOf(t, h, "bob", "chat/1")
		if wantTold(o.all()...); o.count("bob joined chat/1") != 0 {
			t.Error("nobody observes")
		}
	})
}

func TestMembersOverTheBoundAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(broker.NewMemory(), Config{Presence: fewRules(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		o := new(toldMembers)
		h.Observe(o, false, true)
		var sessions []*Session
		for _, user := range []string{"ann", "bob", "cleo"} {
			sessions = append(sessions, presenceOf(t, h, user, "a"))
			synctest.Wait()
		}
		for _, s := range sessions {
			endSession(h, s, stream.ReasonClient)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if got, want := o.all(), []string{"ann joined a", "bob joined a", "ann left a", "bob left a"}; !slices.Equal(got, want) {
			t.Errorf("it is told %q, want %q", got, want)
		}
	})
}

func TestMembersOfThreeNodesJoinAndLeaveOnce(t *testing.T) {
	synctest.Test(t, membersOfThreeNodes)
}

func membersOfThreeNodes(t *testing.T) {
	log, o := &sharedLog{nodes: make(map[string]*sharedNode)}, new(toldMembers)
	nodes, hubs := make(map[string]*sharedNode), make(map[string]*Hub)
	start := func(name string) *Hub {
		nodes[name] = log.node(name)
		hubs[name] = hubOn(t, nodes[name], Config{Presence: presenceRules(t, "**")})
		hubs[name].Observe(o, false, true)
		return hubs[name]
	}
	for _, name := range []string{"b", "c", "d"} {
		start(name)
	}
	// Each user has a tab at each node, all at once.
	const users = 20
	var tabs []*Session
	var at []*Hub
	for i := range users {
		for _, h := range hubs {
			tabs, at = append(tabs, presenceOf(t, h, fmt.Sprint("user", i), "a")), append(at, h)
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	want := func(what string, users, all int) {
		t.Helper()
		for i := range users {
			if n := o.count(fmt.Sprintf("user%d %s a", i, what)); n != 1 {
				t.Fatalf("user%d %s %d times", i, what, n)
			}
		}
		if got := o.all(); len(got) != all {
			t.Fatalf("it is told %d things, not %d: %q", len(got), all, got)
		}
	}
	want("joined", users, users)
	// A node that starts knows who is there, also if it leads.
	presenceOf(t, start("a"), "user0", "a")
	time.Sleep(time.Minute)
	synctest.Wait()
	want("joined", users, users)
	for i, s := range tabs {
		endSession(at[i], s, stream.ReasonClient)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for i := 1; i < users; i++ { // user0 is at the new node
		if n := o.count(fmt.Sprintf("user%d left a", i)); n != 1 {
			t.Fatalf("user%d left %d times", i, n)
		}
	}
	want("joined", users, 2*users-1)
	// The one that leads dies: its members leave, but for those that are on others.
	presenceOf(t, hubs["a"], "ann", "a")
	presenceOf(t, hubs["c"], "ann", "a")
	time.Sleep(time.Minute)
	nodes["a"].die()
	time.Sleep(20 * time.Second)
	synctest.Wait()
	want("left", users, 2*users+1)
	if o.count("ann joined a") != 1 || o.count("ann left a") != 0 {
		t.Errorf("of ann it is told otherwise: %q", o.all())
	}
}

// A node that exits does not take its members with it: their clients come back to others.
func TestMembersOfANodeThatExitsAreNotMissedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, o := &sharedLog{nodes: make(map[string]*sharedNode)}, new(toldMembers)
		nodes, hubs := make(map[string]*sharedNode), make(map[string]*Hub)
		for _, name := range []string{"a", "b"} {
			nodes[name] = log.node(name)
			hubs[name] = hubOn(t, nodes[name], Config{Presence: presenceRules(t, "**")})
			hubs[name].Observe(o, false, true)
		}
		sessions := []*Session{presenceOf(t, hubs["a"], "ann", "a"), presenceOf(t, hubs["a"], "bob", "a")}
		time.Sleep(time.Minute)
		for _, s := range sessions {
			endSession(hubs["a"], s, stream.ReasonShutdown)
		}
		hubs["a"].FlushActivity(t.Context())
		hubs["a"].Observe(nil, false, false)
		if err := hubs["a"].Close(); err != nil {
			t.Fatal(err)
		}
		nodes["a"].die()
		time.Sleep(8 * time.Second)
		presenceOf(t, hubs["b"], "ann", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if o.count("ann joined a") != 1 || o.count("bob joined a") != 1 || len(o.all()) != 3 || o.all()[2] != "bob left a" {
			t.Errorf("it is told %q", o.all())
		}
	})
}
