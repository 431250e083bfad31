package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

func publishTo(t *testing.T, b *Broker, name, data string) ID {
	t.Helper()
	results, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte(data)}}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].ID
}

func setTo(t *testing.T, b *Broker, name, value string) ID {
	t.Helper()
	op := Op{Kind: KindState, Channel: name, State: &StateOp{}}
	if value != "" {
		op.State.Value = []byte(value)
	}
	results, err := b.Publish(context.Background(), []Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].ID
}

// told is all that a reader is told, a line for each.
func toldAll(t *testing.T, s *Subscription) (lines []string) {
	t.Helper()
	for batch := (Batch{Decode: true}); ; {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if batch.Gap != nil {
			lines = append(lines, "gap "+batch.Gap.Reason)
		}
		for _, d := range batch.Deliveries {
			lines = append(lines, d.Channel+" "+string(d.Event.Data))
		}
		if !batch.More {
			return lines
		}
	}
}

func subscribeAt(t *testing.T, b *Broker, cursor string, channels ...string) *Subscription {
	t.Helper()
	s, err := b.Subscribe(SubscribeOptions{Channels: channels, Start: Start{LastEventID: cursor}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func wantTold(t *testing.T, s *Subscription, want ...string) {
	t.Helper()
	if got := toldAll(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func onePolicy(string) Policy { return DefaultConfig().History }

func TestNodeThatLoadedTellsWhatTheLogNoLongerHad(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a := l.join("a", DefaultConfig())
	first := publishTo(t, a.b, "x", "1")
	publishTo(t, a.b, "x", "2")
	l.trim(DefaultConfig().History, 2)
	late := l.join("b", DefaultConfig())
	wantTold(t, subscribeAt(t, late.b, first.String(), "x"), "gap trimmed")
	wantTold(t, subscribeAt(t, late.b, l.born.String(), "x"), "gap trimmed")
	wantTold(t, subscribeAt(t, late.b, l.last.String(), "x"))
	wantTold(t, subscribeAt(t, late.b, "1000-0", "x"), "gap diverged") // before the log
	wantTold(t, subscribeAt(t, a.b, first.String(), "x"), "x 2")
}

func TestChannelsOfOtherPoliciesHaveLostNothing(t *testing.T) {
	cfg := DefaultConfig()
	few := Policy{Events: 3, Bytes: 1 << 20}
	cfg.Rules = []Rule{{Pattern: "few/**", Policy: few}}
	l := newSharedLog(t, func(name string) Policy {
		if name == "few/1" {
			return few
		}
		return cfg.History
	})
	a := l.join("a", cfg)
	first := publishTo(t, a.b, "x", "1")
	publishTo(t, a.b, "few/1", "2")
	publishTo(t, a.b, "x", "3")
	l.trim(few, 3)
	late := l.join("b", cfg)
	wantTold(t, subscribeAt(t, late.b, first.String(), "x"), "x 3")
	wantTold(t, subscribeAt(t, late.b, first.String(), "few/1"), "gap trimmed")
	wantTold(t, subscribeAt(t, late.b, first.String(), "few/2"), "gap trimmed")
	wantTold(t, subscribeAt(t, late.b, first.String(), "**"), "gap trimmed", "x 3")

	// It is not known any more by which rules older entries were kept.
	cfg.Rules = nil
	if err := late.b.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	wantTold(t, subscribeAt(t, late.b, first.String(), "few/2"), "gap trimmed")
	wantTold(t, subscribeAt(t, late.b, l.last.String(), "few/2"))
}

func TestHoleIsToldToThoseWhoComeBackToo(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a, b := l.join("a", DefaultConfig()), l.join("b", DefaultConfig())
	first := publishTo(t, a.b, "x", "1")
	b.step(9)
	here := subscribeAt(t, b.b, "", "x")
	publishTo(t, a.b, "x", "2")
	l.trim(DefaultConfig().History, 2)
	publishTo(t, a.b, "x", "3")
	b.step(9)
	wantTold(t, here, "gap trimmed", "x 3")
	wantTold(t, subscribeAt(t, b.b, first.String(), "x"), "gap trimmed", "x 3")
	wantTold(t, subscribeAt(t, a.b, first.String(), "x"), "x 2", "x 3")
}

func TestLossTakesBackValuesAndEvents(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a := l.join("a", DefaultConfig())
	setTo(t, a.b, "kept", "1")
	setTo(t, a.b, "gone", "1")
	publishTo(t, a.b, "kept", "first")
	here := subscribeAt(t, a.b, "", "kept", "gone", "new")
	wantTold(t, here, `kept {"value":1}`, `gone {"value":1}`)
	before := l.states.clone()
	setTo(t, a.b, "kept", "2")
	setTo(t, a.b, "new", "1")
	lost := publishTo(t, a.b, "kept", "second")
	wantTold(t, here, `kept {"value":2}`, `new {"value":1}`, "kept second")

	l.lose(3)
	l.states = before
	publishTo(t, a.b, "kept", "third")
	wantTold(t, here, "gap diverged", `new {"deleted":true}`, `kept {"value":1}`, `gone {"value":1}`, "kept third")
	if s := a.b.State("new"); s.Value != nil {
		t.Errorf("new is %s", s.Value)
	}
	if s := a.b.State("kept"); string(s.Value) != "1" {
		t.Errorf("kept is %s", s.Value)
	}
	wantTold(t, subscribeAt(t, a.b, lost.String(), "kept"),
		"gap diverged", `kept {"value":1}`, "kept first", "kept third")
	if v := setTo(t, a.b, "kept", "3"); a.b.State("kept").Version != v {
		t.Error("a write after the loss was not applied")
	}
}

func TestLogThatLostEverythingBeginsAnew(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a := l.join("a", DefaultConfig())
	setTo(t, a.b, "x", "1")
	here := subscribeAt(t, a.b, "", "x", "**")
	wantTold(t, here, `x {"value":1}`)
	old := publishTo(t, a.b, "x", "old")
	wantTold(t, here, "x old")
	l.entries, l.states, l.born = nil, stateTable{}, ID{l.last.Ms + 1000, 0}
	l.last = l.born
	a.voided, a.stands = true, ID{}
	a.step(1)
	wantTold(t, here, "gap diverged", `x {"deleted":true}`)
	publishTo(t, a.b, "x", "new")
	wantTold(t, here, "x new")
	wantTold(t, subscribeAt(t, a.b, old.String(), "x"), "gap diverged", "x new")
	wantTold(t, subscribeAt(t, a.b, l.born.String(), "x"), `x {"deleted":true}`, "x new")
}

// clone copies t: what a log has at one time.
func (t *stateTable) clone() stateTable {
	copied := *t
	copied.byName = maps.Clone(t.byName)
	return copied
}

func TestRemovalsFromBeforeTheLoadingAreTold(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a := l.join("a", DefaultConfig())
	at := setTo(t, a.b, "x", "1")
	setTo(t, a.b, "x", "")
	l.entries, l.floors[Policy{}] = nil, l.last // the removal is in the log's tables only
	late := l.join("b", DefaultConfig())
	wantTold(t, subscribeAt(t, late.b, at.String(), "x"), `x {"deleted":true}`)
	wantTold(t, subscribeAt(t, late.b, at.String(), "y"))
}

// cutLog is a log that is out of reach until it is told otherwise.
type cutLog struct {
	*MemoryLog
	follower chan Follower
}

func (l *cutLog) Follow(ctx context.Context, f Follower) error {
	f.Cut(nil)
	l.follower <- f
	return l.MemoryLog.Follow(ctx, silent{f})
}

// silent does not say whether the log is loaded or out of reach.
type silent struct{ Follower }

func (silent) Ready() {}

func TestNothingIsReadOrWrittenWhileTheLogIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &cutLog{NewMemory(), make(chan Follower, 1)}
		b, err := New(log, DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		f := <-log.follower
		synctest.Wait()
		check := func(want error) {
			t.Helper()
			if err := b.Loaded(); !errors.Is(err, want) {
				t.Errorf("Loaded: %v, want %v", err, want)
			}
			if _, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "a"}}); !errors.Is(err, want) {
				t.Errorf("Publish: %v, want %v", err, want)
			}
			if _, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}}); !errors.Is(err, want) {
				t.Errorf("Subscribe: %v, want %v", err, want)
			}
			if err := b.Sync(t.Context()); !errors.Is(err, want) {
				t.Errorf("Sync: %v, want %v", err, want)
			}
			if err := b.SetFact(t.Context(), "f", []byte("1"), time.Time{}); !errors.Is(err, want) {
				t.Errorf("SetFact: %v, want %v", err, want)
			}
		}
		check(ErrLoading)
		why := errors.New("no route")
		f.Cut(why)
		check(ErrLoading)
		check(why)
		f.Ready()
		check(nil)
		if _, stale := b.Stale(); stale {
			t.Error("it is stale when it is ready")
		}

		cut := time.Now()
		f.Cut(why)
		time.Sleep(time.Second)
		f.Cut(why)
		if since, stale := b.Stale(); !stale || !since.Equal(cut) {
			t.Errorf("stale %v since %s, want %s", stale, since, cut)
		}
		if err := b.Loaded(); err != nil {
			t.Errorf("what was loaded is not any more: %v", err)
		}
		f.Ready()
		if _, stale := b.Stale(); stale {
			t.Error("it stays stale")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFactsAndNoticesReachEveryNode(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a, b := l.join("a", DefaultConfig()), l.join("b", DefaultConfig())
	heard := make(chan string, 100)
	listen := func(n *sharedNode) {
		n.b.Listen(func(notice Notice) { heard <- spell(n.name, notice) })
	}
	listen(a)
	listen(b)
	ctx := context.Background()
	until := time.UnixMilli(9_999_999_999_999)
	for _, err := range []error{
		a.b.SetFact(ctx, "f", json.RawMessage(`{"x":1}`), until),
		a.b.Tell(ctx, "t", []byte("hello")),
		a.b.SetFact(ctx, "g", json.RawMessage(`2`), time.Time{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if had, err := a.b.RemoveFact(ctx, "g"); !had || err != nil {
		t.Errorf("RemoveFact: %v, %v", had, err)
	}
	if had, err := a.b.RemoveFact(ctx, "g"); had || err != nil {
		t.Errorf("RemoveFact again: %v, %v", had, err)
	}
	b.step(9)
	late := l.join("c", DefaultConfig())
	listen(late)
	want := map[string][]string{}
	for _, n := range []string{"a", "b"} {
		want[n] = []string{"reset", "settled", `fact f {"x":1} 9999999999999`, "notice t hello", "fact g 2", "no fact g"}
	}
	want["c"] = []string{"reset", `fact f {"x":1} 9999999999999`, "settled"}
	got := map[string][]string{}
	for range 15 {
		s := <-heard
		got[s[:1]] = append(got[s[:1]], s[2:])
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("heard %v, want %v", got, want)
	}
	if s := a.b.State("_f"); s.Value != nil || a.b.Stats().States != 0 {
		t.Errorf("a fact is a value: %s", s.Value)
	}
	s, err := a.b.Subscribe(SubscribeOptions{Channels: []string{"**"}, Start: Start{Earliest: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantTold(t, s)
}

func spell(node string, n Notice) string {
	switch {
	case n.Reset:
		return node + " reset"
	case n.Settled:
		return node + " settled"
	case !n.Fact:
		return node + " notice " + n.About + " " + string(n.Data)
	case n.Data == nil:
		return node + " no fact " + n.About
	case n.Until.IsZero():
		return node + " fact " + n.About + " " + string(n.Data)
	}
	return fmt.Sprint(node, " fact ", n.About, " ", string(n.Data), " ", n.Until.UnixMilli())
}

func TestFactsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(NewMemory(), DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan string, 10)
		b.Listen(func(n Notice) { heard <- spell("m", n) })
		start := time.Now()
		if err := b.SetFact(t.Context(), "f", []byte("1"), start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if len(heard) != 3 {
			t.Error("it ended too early")
		}
		time.Sleep(2*factsEvery + time.Second)
		synctest.Wait()
		<-heard
		if <-heard; <-heard != "m fact f 1 "+fmt.Sprint(start.Add(time.Minute).UnixMilli()) || <-heard != "m no fact f" {
			t.Error("something else was heard")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// However many end at once, they are gone soon.
func TestManyFactsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(NewMemory(), DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the removal of what expires has nothing to wait for
		for i := range 4*expiryStep + 1 {
			if err := b.SetFact(t.Context(), fmt.Sprint("f", i), []byte("1"), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * factsEvery)
		synctest.Wait()
		b.mu.Lock()
		left := len(b.facts)
		b.mu.Unlock()
		if left > 0 {
			t.Errorf("%d are left", left)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// While the log is being loaded, not all facts are there.
func TestFactsAreSettledWhenTheLogIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &cutLog{NewMemory(), make(chan Follower, 1)}
		b, err := New(log, DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		f := <-log.follower
		heard := make(chan string, 10)
		b.Listen(func(n Notice) { heard <- spell("m", n) })
		id := ID{Ms: b.Head().Ms + 1}
		fact := Entry{ID: id, Version: EntryVersion, Kind: KindState, Channel: "_f", State: &StateEntry{Value: []byte(`{"data":1}`)}}
		f.Apply([]Entry{fact})
		synctest.Wait()
		for _, want := range []string{"m reset", "m fact f 1"} {
			if got := <-heard; got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		}
		f.Ready()
		f.Cut(errors.New("no route"))
		f.Ready()
		synctest.Wait()
		f.Start(Origin{ID: id, States: []Entry{fact}})
		for _, want := range []string{"m settled", "m reset", "m fact f 1", "m settled"} {
			if got := <-heard; got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		}
		synctest.Wait()
		if len(heard) > 0 {
			t.Errorf("and then %q", <-heard)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNoticesAreBounded(t *testing.T) {
	n := newNotices()
	n.start()
	for i := range maxNotices + MaxFacts + 5 {
		n.add(Notice{About: fmt.Sprint(i)})
	}
	list, more := n.next()
	if len(list) != maxNotices+MaxFacts || !more || !n.takeLost() || n.takeLost() {
		t.Errorf("%d notices wait", len(list))
	}
	n.add(Notice{About: "f", Fact: true})
	n.add(Notice{About: "n"})
	n.add(Notice{Reset: true})
	if list, _ = n.next(); len(list) != 2 || list[0].About != "n" || !list[1].Reset {
		t.Errorf("after a reset there wait %+v", list)
	}
	n.stop()
	if _, more = n.next(); more {
		t.Error("there is more after the end")
	}
}

func TestWhatWasWrittenBetweenALossAndTheNoticeOfItIsTold(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a, b := l.join("a", DefaultConfig()), l.join("b", DefaultConfig())
	setTo(t, a.b, "kept", "1")
	publishTo(t, a.b, "kept", "first")
	for _, names := range [][]string{{"kept"}, {"*"}} {
		here := subscribeAt(t, a.b, "", names...)
		wantTold(t, here, `kept {"value":1}`)
		before := l.states.clone()
		setTo(t, a.b, "kept", "2")
		wantTold(t, here, `kept {"value":2}`)

		l.lose(1)
		l.states = before
		setTo(t, b.b, "kept", "3") // node a has not noticed yet
		publishTo(t, a.b, "kept", "more")
		told := toldAll(t, here)
		if len(told) < 2 || told[0] != "gap diverged" || !slices.Contains(told[1:], `kept {"value":3}`) {
			t.Errorf("told %q, and the value is %s", told, a.b.State("kept").Value)
		}
		setTo(t, a.b, "kept", "1")
		toldAll(t, here)
	}
}
