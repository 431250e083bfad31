package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// told keeps what an Observer is told, of one hub or of several.
type told struct {
	mu   sync.Mutex
	list []string
}

func (o *told) say(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, fmt.Sprintf(format, args...))
}

func (o *told) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

func (o *told) count(s string) (n int) {
	for _, other := range o.all() {
		if s == other {
			n++
		}
	}
	return n
}

func (o *told) Connected(s SessionEvent) { o.say("connected %v", s.Channels) }
func (o *told) Disconnected(s SessionEvent) {
	o.say("disconnected %v %s", s.Channels, s.Reason)
}
func (o *told) ChannelActive(name string)         { o.say("%s active", name) }
func (o *told) ChannelIdle(name string)           { o.say("%s idle", name) }
func (o *told) MemberJoined(channel, user string) { o.say("%s joined %s", user, channel) }
func (o *told) MemberLeft(channel, user string)   { o.say("%s left %s", user, channel) }
func (o *told) StateChanged(c broker.StateChange) { o.say("%s changed", c.Channel) }

func TestEachServedSessionIsToldOnce(t *testing.T) {
	h, o := testHub(t, Config{}), new(told)
	h.Observe(o, false, false)
	served, refused, hasty := testSession(t, h, "10.0.0.1"), testSession(t, h, "10.0.0.2"), testSession(t, h, "10.0.0.3")
	for _, s := range []*Session{served, refused, hasty} {
		if err := add(h, s); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.all(); got != nil {
		t.Fatalf("nothing is served yet, and it is told %q", got)
	}
	h.Withdraw(refused)
	h.Served(refused)
	h.Served(served)
	h.Served(served)
	served.Stream.Close(stream.ReasonClient)
	h.Remove(served)
	h.Remove(served)
	hasty.Stream.Close(stream.ReasonSlow) // before Served is called
	h.Remove(hasty)
	h.Served(hasty)
	want := []string{"connected [a]", "disconnected [a] client", "connected [a]", "disconnected [a] slow"}
	if got := o.all(); !slices.Equal(got, want) {
		t.Errorf("it is told %q, want %q", got, want)
	}
}

// sharedLog is a log in memory that several nodes share. It has notices only.
type sharedLog struct {
	mu    sync.Mutex // held while entries are applied, so that all nodes have the same order
	next  uint64
	nodes map[string]*sharedNode
}

type sharedNode struct {
	log  *sharedLog
	name string
	to   broker.Follower // nil until it follows
	dead bool            // others have noticed
}

func (l *sharedLog) node(name string) *sharedNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := &sharedNode{log: l, name: name}
	l.nodes[name] = n
	return n
}

func (n *sharedNode) Append(_ context.Context, ops []broker.Op) ([]broker.Result, error) {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	if n.dead {
		return nil, broker.ErrUnavailable
	}
	results := make([]broker.Result, len(ops))
	for i := range ops {
		n.log.next++
		results[i].ID = broker.ID{Ms: n.log.next}
		for _, node := range n.log.nodes {
			if node.to != nil && !node.dead {
				node.to.Apply([]broker.Entry{{ID: results[i].ID, Version: broker.EntryVersion, Kind: ops[i].Kind, Channel: ops[i].Channel, Event: ops[i].Event}})
			}
		}
	}
	return results, nil
}

func (n *sharedNode) Follow(ctx context.Context, f broker.Follower) error {
	n.log.mu.Lock()
	f.Start(broker.Origin{ID: broker.ID{Ms: n.log.next}})
	f.Ready()
	n.to = f
	n.log.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (n *sharedNode) Members() ([]string, bool) {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	var names []string
	for name, node := range n.log.nodes {
		if !node.dead {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, true
}

func (n *sharedNode) die() {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	n.dead = true
}

func (n *sharedNode) Sync(context.Context) error                   { return nil }
func (n *sharedNode) Close() error                                 { return nil }
func (n *sharedNode) Node() string                                 { return n.name }
func (n *sharedNode) Report(context.Context, map[string]int) error { return nil }
func (n *sharedNode) Readers(_ context.Context, names []string) ([]int, error) {
	return make([]int, len(names)), nil
}

func reader(t *testing.T, h *Hub, channels ...string) *broker.Subscription {
	t.Helper()
	s, err := h.Broker().Subscribe(subscription(channels...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestChannelIsActiveWithTheFirstReaderOfAllNodesAndIdleAfterTheLast(t *testing.T) {
	synctest.Test(t, activeAndIdle)
}

func activeAndIdle(t *testing.T) {
	log, o := &sharedLog{nodes: make(map[string]*sharedNode)}, new(told)
	nodes := make(map[string]*sharedNode)
	hubs := make(map[string]*Hub)
	for _, name := range []string{"a", "b", "c"} {
		nodes[name] = log.node(name)
		hubs[name] = hubOn(t, nodes[name], Config{})
		hubs[name].Observe(o, true, false)
	}
	// On all nodes at once, many times: one of them is the first, and one the last.
	var readers []*broker.Subscription
	for name := range hubs {
		for i := range 20 {
			readers = append(readers, reader(t, hubs[name], fmt.Sprintf("many/%d", i), "own/"+name))
		}
	}
	for i := range 20 {
		eventually(t, "channels are active", func() bool { return o.count(fmt.Sprintf("many/%d active", i)) == 1 })
	}
	for name := range hubs {
		eventually(t, "the node's own is active", func() bool { return o.count("own/"+name+" active") == 1 })
	}
	for _, r := range readers {
		r.Close()
	}
	for i := range 20 {
		eventually(t, "channels are idle", func() bool { return o.count(fmt.Sprintf("many/%d idle", i)) == 1 })
	}
	if got := len(o.all()); got > 46 {
		t.Errorf("%d things are told of 23 channels: %q", got, o.all())
	}

	// A node that comes later knows what the others read.
	reader(t, hubs["b"], "late")
	eventually(t, "late is active", func() bool { return o.count("late active") == 1 })
	hubs["d"] = hubOn(t, log.node("d"), Config{})
	hubs["d"].Observe(o, true, false)
	again := reader(t, hubs["d"], "late", "later")
	eventually(t, "later is active", func() bool { return o.count("later active") == 1 })
	if n := o.count("late active"); n != 1 {
		t.Errorf("late became active %d times", n)
	}

	// The channels of a node that dies become idle, but for those that others read.
	reader(t, hubs["b"], "lonely")
	eventually(t, "lonely is active", func() bool { return o.count("lonely active") == 1 })
	nodes["b"].die()
	eventually(t, "lonely is idle", func() bool { return o.count("lonely idle") == 1 })
	if n := o.count("late idle"); n != 0 {
		t.Errorf("late is read, and became idle %d times", n)
	}
	again.Close()
	eventually(t, "late is idle", func() bool { return o.count("late idle") == 1 && o.count("later idle") == 1 })
}

// A page that is loaded again changes nothing.
func TestChannelIsNotIdleForAMoment(t *testing.T) {
	synctest.Test(t, idleForAMoment)
}

func idleForAMoment(t *testing.T) {
	h, o := testHub(t, Config{}), new(told)
	h.Observe(o, true, false)
	r := reader(t, h, "page")
	eventually(t, "it is active", func() bool { return o.count("page active") == 1 })
	r.Close()
	r = reader(t, h, "page")
	reader(t, h, "other")
	eventually(t, "another is active", func() bool { return o.count("other active") == 1 })
	r.Close()
	h.FlushActivity(t.Context())
	if got, want := o.all(), []string{"page active", "other active", "page idle"}; !slices.Equal(got, want) {
		t.Errorf("it is told %q, want %q", got, want)
	}
}
