package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// log is what nodes tell each other, in order.
type log struct {
	mu     sync.Mutex
	nodes  map[string]*Table
	living []string
	known  bool
	fails  bool
	loses  func() bool // a message is lost to a node
	bytes  int
	count  int
}

func newLog() *log { return &log{nodes: make(map[string]*Table), known: true} }

// node starts a node with presence for all channels.
func (l *log) node(t *testing.T, name string, p Policy) *Table {
	t.Helper()
	table := New(Config{
		Node: name, MaxNotice: 64 << 10, Ready: func() bool { return true },
		Members: func() ([]string, bool) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.living), l.known
		},
		Tell: func(_ context.Context, data []byte) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.fails {
				return errors.New("the log is out of reach")
			}
			if len(data) > 64<<10 {
				t.Errorf("a notice has %d bytes", len(data))
			}
			l.bytes += len(data)
			l.count++
			for _, to := range l.nodes {
				if l.loses == nil || !l.loses() {
					to.Hear(data)
				}
			}
			return nil
		},
	})
	l.mu.Lock()
	l.nodes[name] = table
	l.living = append(l.living, name)
	l.mu.Unlock()
	setRules(t, table, p)
	return table
}

// dies takes a node out. Its lease ends after 7 s.
func (l *log) dies(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	table := l.nodes[name]
	delete(l.nodes, name)
	table.config.Tell = func(context.Context, []byte) error { return errors.New("it is dead") }
	time.AfterFunc(7*time.Second, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.living = slices.DeleteFunc(slices.Clone(l.living), func(s string) bool { return s == name })
	})
}

func (l *log) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// wantMembers checks a channel at a node, by name and with the number of sessions.
func wantMembers(t *testing.T, table *Table, channel string, unnamed int, want map[string]int) {
	t.Helper()
	page := table.Members(channel, "", MaxMembers)
	got := make(map[string]int)
	for _, m := range page.Members {
		got[m.User] = m.Sessions
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || page.Count != len(want)+unnamed || page.Unnamed != unnamed || page.Partial {
		t.Errorf("%s has of %s %d members, %v, partial: %t, and not %d, %v", table.config.Node, channel, page.Count, got, page.Partial, len(want)+unnamed, want)
	}
}

// TestThreeNodesAgreeWithAModel has 1,000 users with two sessions each come and go at
// three nodes. At rest each node knows what the model does.
func TestThreeNodesAgreeWithAModel(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		t.Run(fmt.Sprintf("lossy=%t", lossy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				l := newLog()
				if lossy {
					lost := rand.New(rand.NewPCG(3, 4))
					l.loses = func() bool { return lost.IntN(20) == 0 }
				}
				var nodes []*Table
				for i := range 3 {
					nodes = append(nodes, l.node(t, fmt.Sprint("node", i), Policy{Members: 1000}))
					defer nodes[i].Close(context.Background())
				}
				watching := new(sink)
				nodes[0].Join(&Session{User: "watcher", Sink: watching}, "a", true)
				type open struct {
					session *Session
					node    *Table
				}
				var sessions []open
				model := map[string]int{"watcher": 1}
				for range 6000 {
					switch {
					case len(sessions) < 1000 || random.IntN(2) == 0 && len(sessions) < 2000:
						user := fmt.Sprint("user", random.IntN(998))
						if model[user] == 2 {
							continue
						}
						s := open{&Session{User: user}, nodes[random.IntN(3)]}
						s.node.Join(s.session, "a", false)
						sessions = append(sessions, s)
						model[user]++
					default:
						i := random.IntN(len(sessions))
						s := sessions[i]
						sessions = slices.Delete(sessions, i, i+1)
						s.node.LeaveAll(s.session, time.Duration(random.IntN(3))*time.Second-time.Second)
						if model[s.session.User]--; model[s.session.User] == 0 {
							delete(model, s.session.User)
						}
					}
					time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
				}
				if lossy {
					l.set(func() { l.loses = nil })
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				for _, node := range nodes {
					wantMembers(t, node, "a", 0, model)
				}
				told := make(map[string]bool)
				var count int
				for _, text := range watching.data(t) {
					var d struct {
						Members, Joined, Left []left
						Count                 int
					}
					if err := json.Unmarshal([]byte(text), &d); err != nil {
						t.Fatal(err)
					}
					count = d.Count
					for _, m := range append(d.Members, d.Joined...) {
						if told[m.User] {
							t.Fatalf("%s has joined twice", m.User)
						}
						told[m.User] = true
					}
					for _, m := range d.Left {
						if !told[m.User] {
							t.Fatalf("%s has left twice", m.User)
						}
						delete(told, m.User)
					}
				}
				if count != len(model) || len(told) != len(model) {
					t.Errorf("the watcher knows %d members, and was told %d, of %d", len(told), count, len(model))
				}
				for user := range model {
					if !told[user] {
						t.Fatalf("the watcher was not told of %s", user)
					}
				}
				for _, s := range sessions {
					s.node.LeaveAll(s.session, 0)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				wantMembers(t, nodes[2], "a", 0, map[string]int{"watcher": 1})
			})
		})
	}
}

func TestADeadNodeTakesItsMembersWithItWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{}), l.node(t, "b", Policy{})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		a.Join(&Session{User: "ann"}, "x", false)
		b.Join(&Session{User: "ann"}, "x", false)
		b.Join(&Session{User: "bob"}, "x", false)
		b.Join(&Session{}, "x", false)
		time.Sleep(3 * time.Second)
		wantMembers(t, a, "x", 1, map[string]int{"ann": 2, "bob": 1})
		l.dies("b")
		time.Sleep(6 * time.Second)
		wantMembers(t, a, "x", 1, map[string]int{"ann": 2, "bob": 1})
		l.set(func() { l.known = false }) // a failure of this node takes nobody away
		time.Sleep(6 * time.Second)
		if page := a.Members("x", "", 10); page.Count != 3 || !page.Partial {
			t.Errorf("while the nodes are not known the members are %+v", page)
		}
		l.set(func() { l.known = true })
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		wantMembers(t, a, "x", 0, map[string]int{"ann": 1})
		if len(a.peers.all) != 0 {
			t.Error("the dead node is not forgotten")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{}), l.node(t, "b", Policy{})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		b.Join(&Session{User: "bob"}, "x", false)
		time.Sleep(3 * time.Second)
		l.dies("b")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantMembers(t, a, "x", 0, nil)
		if len(a.rooms) != 0 {
			t.Error("a channel of the dead node is kept")
		}
	})
}

func TestClientsOfANodeThatLeavesAreNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{}), l.node(t, "b", Policy{})
		defer a.Close(context.Background())
		watching, bob := new(sink), &Session{User: "bob"}
		a.Join(&Session{User: "ann", Sink: watching}, "x", true)
		b.Join(bob, "x", false)
		unnamed := &Session{}
		b.Join(unnamed, "x", false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		watching.data(t)
		b.LeaveAll(bob, 5*time.Second)
		b.LeaveAll(unnamed, 5*time.Second)
		b.Close(t.Context())
		l.dies("b")
		a.Join(&Session{}, "x", false)
		time.Sleep(8 * time.Second)
		a.Join(&Session{User: "bob"}, "x", false)
		time.Sleep(time.Minute)
		wantData(t, watching)
		wantMembers(t, a, "x", 1, map[string]int{"ann": 1, "bob": 1})
		if len(a.peers.all) != 0 {
			t.Error("the node that has left is not forgotten")
		}
	})
}

func TestANodeThatStartsGetsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a := l.node(t, "a", Policy{Members: 1000})
		defer a.Close(context.Background())
		want := make(map[string]int)
		meta := json.RawMessage(fmt.Sprintf(`{"a":"%0900d"}`, 0)) // so that it takes several notices
		for i := range 500 {
			user := fmt.Sprint("user", i)
			a.Join(&Session{User: user}, "x", false)
			if err := a.SetMeta("x", user, meta); err != nil {
				t.Fatal(err)
			}
			want[user] = 1
		}
		a.Join(&Session{}, "y", false)
		time.Sleep(time.Minute)
		b := l.node(t, "b", Policy{Members: 1000})
		defer b.Close(context.Background())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantMembers(t, b, "x", 0, want)
		wantMembers(t, b, "y", 1, nil)
		if got := b.Members("x", "user42", 1); string(got.Members[0].Meta) != string(meta) || got.Members[0].User != "user420" || got.Next != "user420" {
			t.Errorf("the page is %+v", got)
		}
		// What was lost is asked for.
		l.set(func() { l.fails = true })
		a.Join(&Session{User: "late"}, "x", false)
		want["late"] = 1
		time.Sleep(5 * time.Second)
		l.set(func() { l.fails = false })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantMembers(t, b, "x", 0, want)
		l.set(func() { l.loses = func() bool { return true } })
		a.Join(&Session{User: "lost"}, "x", false)
		want["lost"] = 1
		time.Sleep(5 * time.Second)
		l.set(func() { l.loses = nil })
		b.Reset()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		wantMembers(t, b, "x", 0, want)
		wantMembers(t, a, "x", 0, want)
	})
}

func TestNodesWithoutPresenceTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{}), l.node(t, "b", Policy{})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		a.SetRules(nil)
		b.SetRules(nil)
		time.Sleep(time.Second)
		l.set(func() { l.count = 0 })
		a.Join(&Session{User: "ann"}, "x", true)
		time.Sleep(time.Hour)
		l.set(func() {
			if l.count != 0 {
				t.Errorf("%d notices were told", l.count)
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		a, b := l.node(t, "a", Policy{}), l.node(t, "b", Policy{})
		defer a.Close(context.Background())
		defer b.Close(context.Background())
		a.Join(&Session{User: "ann"}, "x", true)
		time.Sleep(10 * time.Second)
		l.set(func() { l.count, l.bytes = 0, 0 })
		time.Sleep(100 * time.Second)
		l.set(func() {
			if l.count > 22 || l.bytes > 1000 {
				t.Errorf("at rest two nodes told %d notices, %d bytes, in 100 s", l.count, l.bytes)
			}
		})
	})
}
