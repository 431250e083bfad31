package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// stepwise has refills take a step for each name and each entry, and do something between.
func stepwise(b *Broker, between func()) {
	b.steps.names, b.steps.entries, b.steps.between = 1, 1, between
}

// What channels drop while a pattern is refilled from them in steps is read all the same,
// and what is published meanwhile comes after it.
func TestARefillReadsWhatChannelsDropMeanwhile(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.History.Bytes = 1 << 20
		c.Rules = []Rule{{Pattern: "z/*", Policy: Policy{Events: Unlimited, Bytes: MinBytes}}}
	})
	padding := strings.Repeat("x", 400)
	var want []string
	add := func(name string) {
		want = append(want, fmt.Sprintf("%d%s", len(want), padding))
		publish(t, b, name, want[len(want)-1])
	}
	for i := range 8 {
		add([]string{"z/x", "b/x", "c/x"}[i%3])
	}
	before := len(want)
	stepwise(b, func() {
		if len(want) < before+60 {
			for _, name := range []string{"z/x", "z/x", "b/x", "new/x", "z/x"} {
				add(name)
			}
		}
	})
	s := subscribe(t, b, Start{Earliest: true}, "*/x")
	if got, gap := read(t, s); got != strings.Join(want, " ") || gap != nil {
		t.Errorf("want %q got %q, gap %+v", strings.ReplaceAll(strings.Join(want, " "), padding, ""), strings.ReplaceAll(got, padding, ""), gap)
	}
	if r := s.Replay(); !r.Complete {
		t.Errorf("the replay is not complete: %+v", r)
	}
	if n := b.feeds["z/x"].count(); n > 10 {
		t.Errorf("the channel has dropped nothing: it has %d events", n)
	}
}

// A channel that is dropped between two steps is read, too, and is no loss, also if it is
// there again when the refill comes to it.
func TestARefillReadsChannelsThatAreDroppedMeanwhile(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 4 })
	for i := range 4 {
		publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
	}
	n := 0
	stepwise(b, func() {
		if n++; n == 1 { // one of them was captured
			for i := range 4 {
				publish(t, b, fmt.Sprintf("b/%d", i), "x")
			}
			publish(t, b, "a/3", "again")
		}
	})
	s := subscribe(t, b, Start{Earliest: true}, "a/*")
	expect(t, s, "0 1 2 3 again")
	if r := s.Replay(); !r.Complete {
		t.Errorf("the replay is not complete: %+v", r)
	}
	if b.feeds["a/2"] != nil || n == 0 {
		t.Errorf("no channel was dropped in %d steps", n)
	}
}

// What a channel drops by number between two steps, or for others, is no loss.
func TestARefillReadsWhatIsTrimmedMeanwhile(t *testing.T) {
	for what, drop := range map[string]func(b *Broker){
		"by number": func(b *Broker) {
			for i := range 3 {
				publish(t, b, "a/3", fmt.Sprint("new", i))
			}
		},
		"for others": func(b *Broker) {
			b.mu.Lock()
			b.dropOldest(b.feeds["a/3"])
			b.mu.Unlock()
			for i := range 3 {
				publish(t, b, "a/0", fmt.Sprint("new", i))
			}
		},
	} {
		b := newBroker(t, func(c *Config) { c.History.Events = 2 })
		var cursor ID
		for i := range 4 {
			id := publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
			if i == 0 {
				cursor = id
			}
		}
		n := 0
		stepwise(b, func() {
			if n++; n == 1 {
				drop(b)
			}
		})
		s := subscribe(t, b, Start{LastEventID: cursor.String()}, "a/*")
		if got, gap := read(t, s); got != "1 2 3 new0 new1 new2" || gap != nil || n == 0 {
			t.Errorf("%s: read %q, gap %+v, after %d steps", what, got, gap, n)
		}
	}
}

// A purge while a pattern is refilled in steps takes effect, whether the refill has come
// to the channel or not.
func TestAPurgeWhileAPatternIsRefilled(t *testing.T) {
	for purgeAt := 1; ; purgeAt++ {
		b := newBroker(t)
		for i := range 4 {
			publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
		}
		n := 0
		stepwise(b, func() {
			if n++; n != purgeAt {
				return
			}
			if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "a/1"}}); err != nil {
				t.Fatal(err)
			}
		})
		want := "0 2 3"
		s := subscribe(t, b, Start{Earliest: true}, "a/*")
		if n < purgeAt {
			want = "0 1 2 3"
		}
		expect(t, s, want)
		if n < purgeAt {
			return
		}
	}
}

// A refill that is made void each time is done in one go at last.
func TestARefillEndsThoughItIsMadeVoidAgainAndAgain(t *testing.T) {
	b := newBroker(t)
	for i := range 4 {
		publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
	}
	stepwise(b, func() {
		if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "a/none"}}); err != nil {
			t.Fatal(err)
		}
	})
	expect(t, subscribe(t, b, Start{Earliest: true}, "a/*"), "0 1 2 3")
}

// A pattern that is refilled for a reader who is refused then is kept no longer than
// others.
func TestARefillForWhoIsRefused(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxSubscriptions = 1 })
	for i := range 4 {
		publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
	}
	var other *Subscription
	stepwise(b, func() {
		if other == nil {
			other = subscribe(t, b, Start{}, "b")
		}
	})
	if _, err := b.Subscribe(SubscribeOptions{Channels: []string{"a/*"}, Start: Start{Earliest: true}}); err != ErrTooManySubscriptions {
		t.Errorf("%v, want %v", err, ErrTooManySubscriptions)
	}
	if p := b.patterns["a/*"]; p == nil || p.pins != 0 || p.unread == 0 {
		t.Errorf("the pattern is kept as %+v", p)
	}
}

// A broker that is closed between two steps refuses the reader at once.
func TestARefillOfABrokerThatIsClosed(t *testing.T) {
	b, err := New(NewMemory(), DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
	}
	n := 0
	stepwise(b, func() {
		if n++; n == 1 {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := b.Subscribe(SubscribeOptions{Channels: []string{"a/*"}, Start: Start{Earliest: true}}); err != ErrClosed || n != 1 {
		t.Errorf("%v after %d steps, want %v after the first", err, n, ErrClosed)
	}
}

// Who joins reads nothing if its subscription has ended between two steps.
func TestARefillForWhoHasLeft(t *testing.T) {
	b := newBroker(t)
	for i := range 4 {
		publish(t, b, fmt.Sprintf("a/%d", i), fmt.Sprint(i))
	}
	s := subscribe(t, b, Start{}, "b")
	stepwise(b, s.Close)
	if err := s.Join("a/*", Start{Earliest: true}); err != ErrClosed {
		t.Errorf("%v, want %v", err, ErrClosed)
	}
	if p := b.patterns["a/*"]; p == nil || len(p.readers) > 0 || p.unread == 0 {
		t.Errorf("the pattern is kept as %+v", p)
	}
}
