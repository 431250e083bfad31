package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// What happens to a pattern while it is refilled in steps.

// fourOf is a broker with four events in four channels.
func fourOf(t *testing.T, change ...func(*Config)) (b *Broker, first ID) {
	t.Helper()
	b = newBroker(t, change...)
	for i := range 4 {
		if id := publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i)); i == 0 {
			first = id
		}
	}
	return b, first
}

// once has something done between the first two steps of a refill.
func once(b *Broker, do func()) (n *int) {
	n = new(int)
	stepwise(b, func() {
		if *n++; *n == 1 {
			do()
		}
	})
	return n
}

// A pattern that is refilled in one go between two steps does not get all once more.
func TestAPatternIsRefilledTwiceAtOnce(t *testing.T) {
	b, first := fourOf(t)
	once(b, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.refill(b.patterns["a/*"], ID{})
	})
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*"), "1 2 3")
	if n := b.patterns["a/*"].count(); n != 4 {
		t.Errorf("the pattern has %d events, want 4", n)
	}
}

// What a pattern drops between two steps, that it had above what it is refilled with, is read
// again from the channels.
func TestAPatternDropsWhileItIsRefilled(t *testing.T) {
	b, first := fourOf(t)
	s := subscribe(t, b, Start{}, "a/*")
	publish(t, b, "a/0", "4")
	once(b, func() {
		b.mu.Lock()
		b.dropOldest(b.patterns["a/*"]) // to make room for others
		b.mu.Unlock()
		publish(t, b, "a/1", "5")
	})
	early := subscribe(t, b, Start{LastEventID: first.String()}, "a/*")
	expect(t, early, "1 2 3 4 5")
	b.steps.between = nil
	expect(t, s, "4 5")
}

// A pattern that drops what it had, to make room for what it is refilled with, gets nothing:
// it would have a hole.
func TestAPatternMakesRoomForItsRefill(t *testing.T) {
	b, _ := fourOf(t)
	subscribe(t, b, Start{}, "a/*")
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprint(100+i))
		publish(t, b, fmt.Sprintf("a/%d", i%4), want[i])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.patterns["a/*"]
	b.cfg.MaxBytes = b.bytes
	b.refill(p, ID{})
	var got []string
	for _, block := range p.all() {
		_, data, _ := strings.Cut(string(block), "data: ")
		got = append(got, strings.TrimSpace(data))
	}
	if len(got) == 0 || len(got) == 40 || !slices.Equal(got, want[40-len(got):]) {
		t.Errorf("the pattern has %q", got)
	}
}

// What channels have lost since is no loss for who resumes above what a pattern was refilled
// with: the pattern has it.
func TestARefillTellsNoLossOfWhatThePatternHas(t *testing.T) {
	b, first := fourOf(t, func(c *Config) { c.History.Events = 2 })
	s := subscribe(t, b, Start{}, "a/*")
	var third ID
	for i := range 6 {
		if id := publish(t, b, "a/0", fmt.Sprint(100+i)); i == 2 {
			third = id
		}
	}
	if got, _ := read(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*")); got != "1 2 3 100 101 102 103 104 105" {
		t.Errorf("who begins early reads %q", got)
	}
	expect(t, subscribe(t, b, Start{LastEventID: third.String()}, "a/*"), "103 104 105")
	expect(t, s, "100 101 102 103 104 105")
}

// A pattern lets go of nothing while it is refilled, though all its readers have passed it.
func TestAPatternReleasesNothingWhileItIsRefilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first := fourOf(t)
		s := subscribe(t, b, Start{}, "a/*")
		publish(t, b, "a/0", "4")
		expect(t, s, "4")
		once(b, func() {
			time.Sleep(liveTail + 2*sweepEvery)
			synctest.Wait()
		})
		expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*"), "1 2 3 4")
	})
}

// A pattern that nobody reads is not dropped while it is refilled: all is looked at once.
func TestAPatternStaysWhileItIsRefilled(t *testing.T) {
	b, first := fourOf(t)
	once(b, b.sweep)
	looks := &lookBudget{left: 100}
	s, err := b.Subscribe(SubscribeOptions{Channels: []string{"a/*"}, Start: Start{LastEventID: first.String()}, Looks: looks})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	expect(t, s, "1 2 3")
	if n := 100 - looks.left; n != 4+3 {
		t.Errorf("%d names and events were looked at, want 7", n)
	}
}

func eventEntry(id ID, name, data string) Entry {
	return Entry{ID: id, Version: EntryVersion, Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte(data)}}
}

// Entries that a log takes back between two steps do not come by the refill, whether it has
// come to them or not.
func TestARestartWhileAPatternIsRefilled(t *testing.T) {
	for restartAt, n := 1, 1; n >= restartAt; restartAt++ {
		synctest.Test(t, func(t *testing.T) { n = restartWhileRefilled(t, restartAt) })
	}
}

// restartWhileRefilled restarts a broker between two steps of a refill, and is how many there
// were.
func restartWhileRefilled(t *testing.T, restartAt int) (n int) {
	b, f := byHand(t, DefaultConfig())
	now := uint64(time.Now().UnixMilli())
	f.Start(Origin{ID: ID{now, 0}})
	f.Ready()
	for i := range 4 {
		f.Apply([]Entry{eventEntry(ID{now, uint64(1 + i)}, fmt.Sprintf("a/%d", i), fmt.Sprint(i))})
	}
	stepwise(b, func() {
		if n++; n == restartAt {
			f.Start(Origin{ID: ID{now, 2}, Gap: ReasonDiverged})
		}
	})
	want := "0 1 other"
	s := subscribe(t, b, Start{Earliest: true}, "a/*")
	if n < restartAt {
		want = "0 1 2 3 other"
	}
	f.Apply([]Entry{eventEntry(ID{now + 1, 0}, "a/3", "other")})
	if got, _ := read(t, s); got != want {
		t.Errorf("restarted at step %d of %d: read %q, want %q", restartAt, n, got, want)
	}
	return n
}

// The memory of a refill moves with the pattern, when another owner gets it meanwhile.
func TestAPatternMovesWhileItIsRefilled(t *testing.T) {
	b, _ := fourOf(t)
	begin := func(id Owner, start Start) *Subscription {
		s, err := b.Subscribe(SubscribeOptions{Channels: []string{"a/*"}, Owner: id, Start: start})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	leaves, stays := begin(1, Start{}), begin(2, Start{})
	defer stays.Close()
	n := 0
	stepwise(b, func() {
		if n++; b.filling.older.size > 0 {
			leaves.Close()
			if own := b.filling.older.owner; own == nil || own.id != 2 {
				t.Errorf("it counts for %+v", own)
			}
		}
	})
	early := begin(3, Start{Earliest: true})
	defer early.Close()
	expect(t, early, "0 1 2 3")
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.patterns["a/*"]
	if own := b.owners.byID[2]; own == nil || own.bytes != p.size || p.size == 0 || b.owners.byID[1] != nil || n == 0 {
		t.Errorf("owner 2 has %+v, owner 1 %+v, after %d steps; the pattern has %d bytes", own, b.owners.byID[1], n, p.size)
	}
}

// A refill that takes no more than one step waits for no other, and no other has to wait
// for it.
func TestAShortRefillWaitsForNobody(t *testing.T) {
	b, first := fourOf(t)
	publish(t, b, "b/0", "0")
	n := 0
	stepwise(b, func() {
		if n++; n == 1 {
			expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "b/*"), "0")
		}
	})
	b.steps.names = 2 // the name b itself is looked for, too
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*"), "1 2 3")
	if n == 0 {
		t.Error("the long one was done in one go")
	}
}

// A refill of few names is one in steps, too, if they have many events.
func TestARefillOfManyEventsIsDoneInSteps(t *testing.T) {
	b := newBroker(t)
	first := publish(t, b, "a/0", "0")
	publish(t, b, "a/0", "1")
	publish(t, b, "a/0", "2")
	n := 0
	b.steps.names, b.steps.entries, b.steps.between = 10, 2, func() { n++ }
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*"), "1 2")
	if n == 0 {
		t.Error("it was done in one go")
	}
}

// Of many who begin with a long history each is counted before the next.
func TestWhoWaitsForARefillIsAskedAgain(t *testing.T) {
	b, first := fourOf(t)
	looks := &lookBudget{left: 6}
	begin := func(pattern string) error {
		s, err := b.Subscribe(SubscribeOptions{Channels: []string{pattern}, Start: Start{LastEventID: first.String()}, Looks: looks})
		if err == nil {
			s.Close()
		}
		return err
	}
	second := make(chan error)
	once(b, func() {
		asked := looks.asked
		go func() { second <- begin("**") }()
		tick, late := time.NewTicker(time.Millisecond), time.After(patience)
		defer tick.Stop()
		for waits := false; !waits; { // for its turn
			select {
			case <-tick.C:
			case <-late:
				t.Error("the second does not wait for its turn")
				return
			}
			b.mu.Lock()
			waits = looks.asked == asked+2
			b.mu.Unlock()
		}
	})
	if err := begin("a/*"); err != nil {
		t.Error(err)
	}
	if err := <-second; err != errLooked {
		t.Errorf("%v, want %v", err, errLooked)
	}
}
