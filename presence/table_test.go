package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a session's stream: what it was told, as lines "data" of each event.
type sink struct {
	mu     sync.Mutex
	events []string
	full   bool // it has no room
}

func (s *sink) OfferBlock(block []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return false
	}
	s.events = append(s.events, string(block))
	return true
}

// data takes the data of the events since the last call.
func (s *sink) data(t *testing.T) (list []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		text, ok := strings.CutPrefix(e, "event: evstream.presence\ndata: ")
		if !ok || !strings.HasSuffix(text, "\n\n") {
			t.Errorf("the event is %q", e)
		}
		list = append(list, strings.ReplaceAll(strings.TrimSuffix(text, "\n\n"), `,"since":"2000-01-01T00:00:00Z"`, ""))
	}
	s.events = nil
	return list
}

func (s *sink) setFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// open returns a table with presence for all channels. It is closed with the test.
func open(t *testing.T, p Policy) *Table {
	t.Helper()
	table := New(Config{})
	t.Cleanup(func() { table.Close(t.Context()) })
	setRules(t, table, p)
	return table
}

func setRules(t *testing.T, table *Table, p Policy) {
	t.Helper()
	rules, err := NewRules([]Rule{{"none/**", nil}, {"**", &p}})
	if err != nil {
		t.Fatal(err)
	}
	table.SetRules(rules)
}

func wantData(t *testing.T, s *sink, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.data(t); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("the watcher was told\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAUserWithFiveTabsIsOneMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{}), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{User: "ann", Sink: watching}, "a", true)
		wantData(t, watching, `{"channel":"a","members":[{"user":"ann"}],"count":1}`)

		var tabs []*Session
		for range 5 {
			tab := &Session{User: "bob"}
			table.Join(tab, "a", false)
			tabs = append(tabs, tab)
		}
		time.Sleep(1100 * time.Millisecond)
		wantData(t, watching, `{"channel":"a","joined":[{"user":"bob"}],"left":[],"count":2}`)
		if page := table.Members("a", "", 10); page.Count != 2 || len(page.Members) != 2 || page.Members[1].Sessions != 5 {
			t.Errorf("the members are %+v", page)
		}

		for _, tab := range tabs[1:] {
			table.LeaveAll(tab, 0)
		}
		time.Sleep(time.Minute)
		wantData(t, watching)
		if page := table.Members("a", "", 10); page.Members[1].Sessions != 1 {
			t.Errorf("the members are %+v", page)
		}
		table.LeaveAll(tabs[0], 0)
		time.Sleep(4900 * time.Millisecond)
		wantData(t, watching)
		time.Sleep(300 * time.Millisecond)
		wantData(t, watching, `{"channel":"a","joined":[],"left":[{"user":"bob"}],"count":1}`)
	})
}

func TestWhoComesBackWithinTheGraceHasNotLeft(t *testing.T) {
	for _, tt := range []struct {
		name       string
		reconnects time.Duration
		back       time.Duration
	}{
		{"a page that loads again", 0, 4 * time.Second},
		{"a stream that was told to reconnect", 5 * time.Second, 9 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, watching := open(t, Policy{}), new(sink)
				defer table.Close(t.Context())
				table.Join(&Session{User: "ann", Sink: watching}, "a", true)
				bob := &Session{User: "bob"}
				table.Join(bob, "a", false)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				watching.data(t)
				for range 3 {
					table.LeaveAll(bob, tt.reconnects)
					time.Sleep(tt.back)
					bob = &Session{User: "bob"}
					table.Join(bob, "a", false)
				}
				time.Sleep(time.Minute)
				wantData(t, watching)
				table.LeaveAll(bob, -1)
				time.Sleep(200 * time.Millisecond)
				wantData(t, watching, `{"channel":"a","joined":[],"left":[{"user":"bob"}],"count":1}`)
			})
		})
	}
}

func TestSessionsWithoutAUserAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{}), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{Sink: watching}, "a", true)
		wantData(t, watching, `{"channel":"a","members":[],"count":1,"anonymous":1}`)
		second := &Session{}
		table.Join(second, "a", false)
		time.Sleep(2 * time.Second)
		wantData(t, watching, `{"channel":"a","joined":[],"left":[],"count":2,"anonymous":2}`)
		// It comes back, as another session: nobody is counted twice.
		table.LeaveAll(second, 0)
		third := &Session{}
		table.Join(third, "a", false)
		time.Sleep(time.Minute)
		wantData(t, watching)
		table.LeaveAll(third, 0)
		time.Sleep(6 * time.Second)
		wantData(t, watching, `{"channel":"a","joined":[],"left":[],"count":1,"anonymous":1}`)
	})
}

func TestChangesAreToldOnceASecondAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{Members: 1000}), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{User: "ann", Sink: watching}, "a", true)
		synctest.Wait()
		watching.data(t)
		for i := range 300 { // over 30 s
			s := &Session{User: fmt.Sprint("user", i)}
			table.Join(s, "a", false)
			time.Sleep(100 * time.Millisecond)
			if i%3 == 0 {
				table.LeaveAll(s, -1)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		events := watching.data(t)
		if n := len(events); n < 28 || n > 32 {
			t.Errorf("in 30 s the watcher was told %d times", n)
		}
		in := map[string]bool{"ann": true}
		for _, e := range events {
			var d changeData
			if err := json.Unmarshal([]byte(e), &d); err != nil {
				t.Fatal(err)
			}
			for _, m := range d.Joined {
				in[m.User] = true
			}
			for _, m := range d.Left {
				delete(in, m.User)
			}
			if d.Count != len(in) {
				t.Fatalf("the count is %d, and %d were told", d.Count, len(in))
			}
		}
		if len(in) != 201 {
			t.Errorf("%d members were told, not 201", len(in))
		}
	})
}

func TestOverTheBoundOnlyTheCountIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{Members: 2}), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{User: "ann", Sink: watching}, "a", true)
		bob, cleo := &Session{User: "bob"}, &Session{User: "cleo"}
		table.Join(bob, "a", false)
		wantData(t, watching, `{"channel":"a","members":[{"user":"ann"},{"user":"bob"}],"count":2}`)
		table.Join(cleo, "a", false)
		time.Sleep(1100 * time.Millisecond)
		wantData(t, watching, `{"channel":"a","count":3}`)
		if page := table.Members("a", "", 10); page.Members != nil || page.Count != 3 {
			t.Errorf("the members are %+v", page)
		}
		for i := range 10 {
			table.Join(&Session{User: fmt.Sprint(i)}, "a", false)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(watching.data(t)); n != 2 {
			t.Errorf("in 11 s the count was told %d times, and not twice", n)
		}
		// A late watcher gets the count, too.
		late := new(sink)
		table.Join(&Session{User: "ann", Sink: late}, "a", true)
		synctest.Wait()
		if got := late.data(t); len(got) != 1 || !strings.HasPrefix(got[0], `{"channel":"a","count":1`) {
			t.Errorf("the late watcher was told %q", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		table, watching := open(t, Policy{Members: 1}), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{User: "ann", Sink: watching}, "a", true)
		bob := &Session{User: "bob"}
		table.Join(bob, "a", false)
		synctest.Wait()
		watching.data(t)
		table.LeaveAll(bob, -1)
		time.Sleep(6 * time.Second)
		wantData(t, watching, `{"channel":"a","members":[{"user":"ann"}],"count":1}`)
	})
}

func TestAWatcherWithoutRoomGetsASnapshotLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, slow, quick := open(t, Policy{}), new(sink), new(sink)
		defer table.Close(t.Context())
		table.Join(&Session{User: "ann", Sink: slow}, "a", true)
		table.Join(&Session{User: "ann", Sink: quick}, "a", true)
		synctest.Wait()
		slow.data(t)
		quick.data(t)
		slow.setFull(true)
		table.Join(&Session{User: "bob"}, "a", false)
		time.Sleep(3 * time.Second)
		wantData(t, quick, `{"channel":"a","joined":[{"user":"bob"}],"left":[],"count":2}`)
		slow.setFull(false)
		time.Sleep(1100 * time.Millisecond)
		wantData(t, slow, `{"channel":"a","members":[{"user":"ann"},{"user":"bob"}],"count":2}`)
		wantData(t, quick)
	})
}

func TestNothingIsKeptOfChannelsWithoutPresence(t *testing.T) {
	table := New(Config{})
	table.Join(&Session{User: "ann"}, "a", true)
	if s := table.Stats(); s != (Stats{}) || table.running {
		t.Errorf("without rules there is %+v", s)
	}
	rules, err := NewRules([]Rule{{"a", nil}, {"**", nil}})
	if err != nil || rules != nil {
		t.Fatalf("rules without presence are %v, %v", rules, err)
	}
	synctest.Test(t, func(t *testing.T) {
		table := open(t, Policy{})
		defer table.Close(t.Context())
		s := &Session{User: "ann"}
		table.Join(s, "none/a", false)
		if got := table.Stats(); got != (Stats{}) || s.rooms != nil {
			t.Errorf("there is %+v", got)
		}
		// When everybody has left, nothing remains.
		for i := range 100 {
			s, unnamed := &Session{User: fmt.Sprint(i), Share: "x"}, &Session{Share: "y", Sink: new(sink)}
			for c := range 10 {
				table.Join(s, fmt.Sprint(c), false)
				table.Join(unnamed, fmt.Sprint(c), true)
			}
			table.LeaveAll(s, 0)
			table.LeaveAll(unnamed, 0)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		table.mu.Lock()
		defer table.mu.Unlock()
		if len(table.rooms)+len(table.heldBy)+len(table.holds)+len(table.due)+table.own+table.unnamed != 0 {
			t.Errorf("there remain %d rooms, %d shares, %d holds, %d due, %d members, %d unnamed",
				len(table.rooms), len(table.heldBy), len(table.holds), len(table.due), table.own, table.unnamed)
		}
	})
}

func TestHoldsAreBoundedForEachShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := open(t, Policy{})
		defer table.Close(t.Context())
		for i := range maxHeld + 500 {
			s := &Session{User: "mallory", Share: "mallory"}
			table.Join(s, fmt.Sprint(i), false)
			table.LeaveAll(s, 0)
		}
		bob := &Session{User: "bob", Share: "bob"}
		table.Join(bob, "a", false)
		table.LeaveAll(bob, 0)
		if s := table.Stats(); s.Members != maxHeld+1 {
			t.Errorf("%d members are held", s.Members)
		}
	})
}

func TestRulesThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{})
		defer table.Close(t.Context())
		setRules(t, table, Policy{})
		ann := &Session{User: "ann"}
		table.Join(ann, "a", false)
		table.SetRules(nil)
		if s := table.Stats(); s != (Stats{}) {
			t.Errorf("without rules there is %+v", s)
		}
		setRules(t, table, Policy{Members: 5})
		table.Join(ann, "a", false) // the hub does it
		table.Join(ann, "a", false)
		if s := table.Stats(); s.Members != 1 || len(ann.rooms) != 1 {
			t.Errorf("there is %+v", s)
		}
		table.LeaveAll(ann, -1)
		if s := table.Stats(); s != (Stats{}) {
			t.Errorf("at the end there is %+v", s)
		}
	})
	for _, p := range []Policy{{Members: -1}, {Members: MaxMembers + 1}, {Grace: -1}, {Grace: 2 * time.Minute}, {Meta: []string{""}}, {Meta: []string{"a", "a"}}, {Meta: make([]string, 21)}} {
		if _, err := NewRules([]Rule{{"a", &p}}); err == nil {
			t.Errorf("the policy %+v is accepted", p)
		}
	}
}

func TestAnObserverSeesEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{})
		defer table.Close(context.Background())
		var seen []string
		table.Observe(func(list []Change) {
			for _, c := range list {
				seen = append(seen, fmt.Sprint(c.User, " ", c.Joined, " ", c.Count))
			}
		})
		setRules(t, table, Policy{})
		ann, bob := &Session{User: "ann", Sink: new(sink)}, &Session{User: "bob"}
		table.Join(ann, "a", true) // the snapshot for a watcher hides nobody
		time.Sleep(2 * time.Second)
		table.Join(bob, "a", false)
		time.Sleep(2 * time.Second)
		table.LeaveAll(ann, 0)
		table.LeaveAll(bob, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Join(seen, ", "); got != "ann true 1, bob true 2, ann false 0, bob false 0" && got != "ann true 1, bob true 2, bob false 0, ann false 0" {
			t.Errorf("the observer saw %s", got)
		}
		if s := table.Stats(); s != (Stats{}) {
			t.Errorf("at the end there is %+v", s)
		}
	})
}
