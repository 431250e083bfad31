package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

func TestEventsLeaveWhenTheyAreTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) { c.History.Age = time.Minute })
		start := b.Head()
		first := publish(t, b, "a", "1")
		time.Sleep(30 * time.Second)
		publish(t, b, "a", "2")
		time.Sleep(30*time.Second - time.Millisecond)
		expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "a"), "1 2")
		time.Sleep(time.Millisecond)
		expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "a"), ReasonTrimmed, "2")
		expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a"), "2")
		expect(t, subscribe(t, b, Start{Since: time.Now().Add(-30 * time.Second)}, "a"), "2")
		expectGap(t, subscribe(t, b, Start{Since: time.Now().Add(-2 * time.Minute)}, "a"), ReasonTrimmed, "2")
	})
}

func TestAChannelThatKeepsNothingIsForgottenButNotItsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) { c.History.Age = time.Minute })
		start := b.Head()
		last := publish(t, b, "a", "1")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if stats := b.Stats(); stats.Channels != 0 || stats.Bytes != 0 {
			t.Fatalf("%+v, want no channels and no bytes", stats)
		}
		expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "a"), ReasonTrimmed, "")
		expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "*"), ReasonTrimmed, "")
		expect(t, subscribe(t, b, Start{LastEventID: last.String()}, "a"), "")
	})
}

func TestHistoriesStayWithinTheirBytes(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.History = Policy{Events: Unlimited, Bytes: 64 << 10}
		c.MaxBytes = 256 << 10
	})
	for i := range 20_000 {
		publish(t, b, fmt.Sprintf("c%d", i%7), strings.Repeat("x", i%900))
		if stats := b.Stats(); stats.Bytes > 256<<10 {
			t.Fatalf("%d bytes are held, at most %d are allowed", stats.Bytes, 256<<10)
		}
	}
	sum := 0
	for i := range 7 {
		info, ok := b.Channel(fmt.Sprintf("c%d", i))
		if !ok || info.Bytes > 64<<10 || info.Events < 20 {
			t.Errorf("%+v", info)
		}
		sum += info.Bytes
	}
	if stats := b.Stats(); sum != stats.Bytes {
		t.Errorf("the channels hold %d bytes, the broker counts %d", sum, stats.Bytes)
	}
}

func TestTheLargestHistoryYieldsFirst(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxBytes = 512 << 10 })
	for range 50 {
		publish(t, b, "small", "x")
	}
	for range 2000 {
		publish(t, b, "large", strings.Repeat("x", 900))
	}
	if info, _ := b.Channel("small"); info.Events != 50 {
		t.Errorf("the small channel keeps %d events, want all 50", info.Events)
	}
}

func TestAnEventAboveEveryBoundIsDeliveredAndNotKept(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.History.Bytes, c.MaxBytes = MinBytes, MinBytes
	})
	s := subscribe(t, b, Start{}, "a")
	big := strings.Repeat("x", 100_000)
	publish(t, b, "a", big)
	expect(t, s, big)
	publish(t, b, "a", "small")
	expect(t, s, "small")
	if stats := b.Stats(); stats.Bytes > MinBytes {
		t.Errorf("%d bytes are held, at most %d are allowed", stats.Bytes, MinBytes)
	}
}

func TestTheChannelUsedLongestAgoYields(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 2 })
	start := b.Head()
	read := subscribe(t, b, Start{}, "read")
	publish(t, b, "old", "1")
	publish(t, b, "new", "2")
	publish(t, b, "newest", "3")
	if _, ok := b.Channel("old"); ok {
		t.Error("the channel used longest ago is still there")
	}
	expect(t, read, "")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "old"), ReasonTrimmed, "")
}

func TestChannelsThatAreReadDoNotYield(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 2 })
	subscribe(t, b, Start{}, "a")
	second := subscribe(t, b, Start{}, "b")
	publish(t, b, "a", "1")
	publish(t, b, "b", "1")
	op := Op{Kind: KindEvent, Channel: "c", Event: sse.Event{Data: []byte("x")}}
	if _, err := b.Publish(context.Background(), []Op{op}); !errors.Is(err, ErrTooManyChannels) {
		t.Errorf("Publish: %v, want ErrTooManyChannels", err)
	}
	publish(t, b, "a", "still")
	second.Close()
	publish(t, b, "c", "room")
}

// Names that were never published to have a bound of their own.
func TestNamesThatAreOnlyReadTakeNothingFromChannels(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 2 })
	start := b.Head()
	publish(t, b, "old", "1")
	publish(t, b, "older", "2")
	first := subscribe(t, b, Start{}, "a")
	subscribe(t, b, Start{}, "b")
	before := b.Stats()
	for _, names := range [][]string{{"c"}, {"old", "c"}, {"a", "older", "c", "d"}, {"c/*"}} {
		if _, err := b.Subscribe(SubscribeOptions{Channels: names}); !errors.Is(err, ErrTooManyChannels) {
			t.Errorf("%q: %v, want ErrTooManyChannels", names, err)
		}
	}
	if after := b.Stats(); after != before {
		t.Errorf("what was refused has changed %+v to %+v", before, after)
	}
	expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "old"), "1")
	publish(t, b, "new", "3") // there is room for what is published
	publish(t, b, "a", "4")
	expect(t, first, "4")
	subscribe(t, b, Start{}, "c")
}

// Publish refuses what there is no room for, but another may take the room
// between its check and the log.
func TestAnEventBeneathThatFindsNoRoomIsAGapToItsReaders(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 2 })
	reached := subscribe(t, b, Start{}, "a/x")
	other := subscribe(t, b, Start{}, "b")
	publish(t, b, "a/x", "1")
	publish(t, b, "b", "1")
	expect(t, reached, "1")
	expect(t, other, "1")
	head := b.Head()
	b.apply([]Entry{{ID: ID{head.Ms, head.N + 1}, Version: EntryVersion, Kind: KindEvent, Channel: "a/"}})
	select {
	case <-reached.Wake():
	default:
		t.Error("the reader is not woken")
	}
	expectGap(t, reached, ReasonTrimmed, "")
	expect(t, other, "")
}

func TestSubscriptionsHaveBounds(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.MaxSubscriptions, c.MaxSubscribers, c.MaxPatterns, c.MaxSubscriptionChannels = 3, 2, 1, 2
	})
	try := func(want error, channels ...string) {
		t.Helper()
		s, err := b.Subscribe(SubscribeOptions{Channels: channels})
		if !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", channels, err, want)
		}
		if err == nil {
			s.Close()
		}
	}
	before := b.Stats()
	try(ErrNoChannels)
	try(ErrTooManySubscriptionChannels, "a", "b", "c")
	try(ErrTooManyPatterns, "a*", "b*")
	try(channel.ErrName, "a", "b//c")
	try(channel.ErrName, "a/")
	try(ErrBeneath, "a/")
	try(channel.ErrName, "_hub")
	try(channel.ErrName, "a**")
	try(nil, "a", "a", "a")
	if after := b.Stats(); after != before {
		t.Errorf("refused subscriptions left something: %+v, was %+v", after, before)
	}
	subscribe(t, b, Start{}, "a")
	s := subscribe(t, b, Start{}, "a")
	try(ErrTooManySubscribers, "a")
	if err := s.Join("b//", Start{}); !errors.Is(err, channel.ErrName) {
		t.Errorf("Join: %v, want channel.ErrName", err)
	}
	subscribe(t, b, Start{}, "b")
	try(ErrTooManySubscriptions, "c")
	s.Close()
	s.Close()
	try(nil, "a")
	if err := s.Join("b", Start{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Join after Close: %v, want ErrClosed", err)
	}
}

func TestABadOperationStoresNothing(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "**")
	good := Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: []byte("x")}}
	for name, row := range map[string]struct {
		change func(*Op)
		want   error
	}{
		"name":          {func(o *Op) { o.Channel = "a b" }, channel.ErrName},
		"hub's name":    {func(o *Op) { o.Channel = "_a" }, channel.ErrName},
		"root":          {func(o *Op) { o.Channel = "/" }, channel.ErrName},
		"pattern":       {func(o *Op) { o.Channel = "a/*" }, channel.ErrName},
		"long name":     {func(o *Op) { o.Channel = strings.Repeat("a", 256) }, channel.ErrName},
		"dots":          {func(o *Op) { o.Channel = "a/../b" }, channel.ErrName},
		"type":          {func(o *Op) { o.Event.Type = "a\rb" }, sse.ErrType},
		"hub's type":    {func(o *Op) { o.Event.Type = "evstream.at" }, ErrReservedType},
		"position":      {func(o *Op) { o.Event.ID = "1-1" }, ErrReservedID},
		"big position":  {func(o *Op) { o.Event.ID = "99999999999999999999999-007" }, ErrReservedID},
		"hub's id":      {func(o *Op) { o.Event.ID = "evstream.end" }, ErrReservedID},
		"id":            {func(o *Op) { o.Event.ID = "a\x00" }, sse.ErrID},
		"retry":         {func(o *Op) { o.Event.Retry = -1 }, sse.ErrRetry},
		"data":          {func(o *Op) { o.Event.Data = []byte("\xff") }, sse.ErrData},
		"size":          {func(o *Op) { o.Event.Data = make([]byte, 256<<10+1) }, ErrEventTooLarge},
		"purge pattern": {func(o *Op) { o.Kind, o.Channel = KindPurge, "*" }, channel.ErrName},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			row.change(&bad)
			_, err := b.Publish(context.Background(), []Op{good, bad})
			var op *OpError
			if !errors.Is(err, row.want) || !errors.As(err, &op) || op.Index != 1 {
				t.Errorf("%v, want %v at operation 1", err, row.want)
			}
		})
	}
	expect(t, s, "")
}

func TestADroppedChannelIsNoGapToPatternsThatDoNotTakeItIn(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.Rules = []Rule{{Pattern: "ticker/*", Policy: Policy{Bytes: MinBytes}}}
	})
	start := b.Head()
	ticker := subscribe(t, b, Start{}, "ticker/x")
	publish(t, b, "ticker/x", "1")
	ticker.Close()
	if _, there := b.Channel("ticker/x"); there {
		t.Fatal("the channel is still in memory")
	}
	publish(t, b, "orders/1", "2")
	expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "orders/*"), "2")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "ticker/*"), ReasonTrimmed, "")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "**"), ReasonTrimmed, "2")
	for i := range 2 * maxMarkedNames { // more names than are known
		b.mu.Lock()
		b.lossMarks.raise(fmt.Sprintf("gone/%d", i), b.issued.last)
		b.mu.Unlock()
	}
	if n := len(b.lossMarks.byName); n != maxMarkedNames {
		t.Errorf("%d names are known, want %d", n, maxMarkedNames)
	}
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "*/1"), ReasonTrimmed, "2")
}

func TestALossIsNotToldOfOtherChannels(t *testing.T) {
	b := newBroker(t)
	start := publish(t, b, "a", "1")
	for i := range maxMarkedNames / 2 {
		b.mu.Lock()
		b.lossMarks.raise(fmt.Sprintf("gone/%d", i), ID{start.Ms, start.N + 1})
		b.states.gone.raise(fmt.Sprintf("gone/%d", i), ID{start.Ms, start.N + 1})
		b.mu.Unlock()
	}
	for i := range maxMarkedNames / 4 { // some have the hash of one of them
		expect(t, subscribe(t, b, Start{LastEventID: start.String()}, fmt.Sprintf("here/%d", i)), "")
	}
}

func TestAPatternIsKeptForReadersThatComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) { c.MaxPatterns = 1 })
		publish(t, b, "a", "1")
		patterns := func() int { return b.Stats().Patterns }
		s := subscribe(t, b, Start{Earliest: true}, "*")
		s.Close()
		time.Sleep(unreadFor - time.Second)
		synctest.Wait()
		last := publish(t, b, "a", "2")
		s = subscribe(t, b, Start{Earliest: true}, "*")
		expect(t, s, "1 2")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := patterns(); n != 1 {
			t.Fatalf("%d patterns, want the one that is read", n)
		}
		s.Close()
		subscribe(t, b, Start{LastEventID: last.String()}, "a*").Close() // takes its room
		if info, n := b.Stats().Bytes, patterns(); n > 1 || info == 0 {
			t.Errorf("%d patterns, %d bytes", n, info)
		}
		time.Sleep(unreadFor + sweepEvery)
		synctest.Wait()
		if n := patterns(); n != 0 {
			t.Errorf("%d patterns that nobody has read for a while", n)
		}
	})
}

func TestConfigureTrimsAtOnce(t *testing.T) {
	b := newBroker(t)
	for i := range 10 {
		publish(t, b, "a", fmt.Sprint(i))
	}
	cfg := DefaultConfig()
	cfg.History.Events = 2
	if err := b.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	expect(t, subscribe(t, b, Start{Earliest: true}, "a"), "8 9")
	cfg.MaxChannels = 0
	if err := b.Configure(cfg); err == nil {
		t.Error("a bound of zero is accepted")
	}
}

func TestConfigureLetsGoOfWhatIsOverASmallerBound(t *testing.T) {
	b := newBroker(t)
	for i := range 100 {
		publish(t, b, fmt.Sprintf("c%d", i), "1")
	}
	for range 900 {
		publish(t, b, "big", strings.Repeat("x", 4000))
	}
	cfg := DefaultConfig()
	cfg.MaxChannels, cfg.History.Bytes = 10, 200<<10
	if err := b.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if n := b.Stats().Channels; n != 10 {
		t.Errorf("%d channels are in memory, want 10", n)
	}
	if big, _ := b.Channel("big"); big.Bytes > 200<<10 || big.Events == 0 {
		t.Errorf("the channel keeps %d events in %d bytes", big.Events, big.Bytes)
	}
}

func TestPublishingIsRefusedWhenFewerChannelsAreAllowed(t *testing.T) {
	b := newBroker(t)
	readers := make([]*Subscription, 10)
	for i := range readers {
		readers[i] = subscribe(t, b, Start{}, fmt.Sprintf("c%d/x", i))
		publish(t, b, fmt.Sprintf("c%d/x", i), "0")
		expect(t, readers[i], "0")
	}
	cfg := DefaultConfig()
	cfg.MaxChannels = len(readers)
	if err := b.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	_, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "c1/"}})
	if !errors.Is(err, ErrTooManyChannels) {
		t.Errorf("an event that nobody gets is answered with %v", err)
	}
	if _, err := b.Publish(t.Context(), []Op{{Kind: KindPurge, Channel: "nobody"}}); err != nil {
		t.Errorf("purging what is not there: %v", err)
	}
	cfg.MaxChannels++
	if err := b.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "c1/", "1")
	expect(t, readers[1], "1")
}

func TestClockThatStepsBackKeepsTheOrder(t *testing.T) {
	now := time.Now()
	log := newMemory(func() time.Time { return now })
	b, err := New(log, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	first := publish(t, b, "a", "1")
	now = now.Add(-time.Minute)
	second := publish(t, b, "a", "2")
	now = now.Add(2 * time.Minute)
	third := publish(t, b, "a", "3")
	if second != (ID{first.Ms, first.N + 1}) || third != (ID{uint64(now.UnixMilli()), log.decide.base}) {
		t.Errorf("ids %s, %s, %s", first, second, third)
	}
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a"), "2 3")
}

func TestUnknownEntriesAreSkippedAndCounted(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a")
	head := b.Head()
	b.apply([]Entry{
		{ID: ID{head.Ms, head.N + 1}, Version: EntryVersion, Kind: 200, Channel: "a"},
		{ID: ID{head.Ms, head.N + 2}, Version: EntryVersion + 1, Kind: KindEvent, Channel: "a"},
	})
	expect(t, s, "")
	if n := b.Stats().Skipped; n != 2 {
		t.Errorf("%d entries were skipped, want 2", n)
	}
	if want := (ID{head.Ms, head.N + 2}); s.Cursor() != want {
		t.Errorf("the cursor is %s, want %s", s.Cursor(), want)
	}
}

func TestWhoIsExceptedCountsAsMemory(t *testing.T) {
	const bytes = 64 << 10
	b := newBroker(t, func(c *Config) { c.History = Policy{Events: Unlimited, Bytes: bytes} })
	who := strings.Repeat("w", 250)
	for i := range 2000 {
		publishAll(t, b, Op{Kind: KindEvent, Channel: "a", Except: who, Event: sse.Event{Data: []byte("x")}})
		held, alone := b.Stats().Bytes, b.feeds["a"].count()*len(who)
		if held > bytes || alone > bytes {
			t.Fatalf("%d events: %d bytes are held, %d for who is excepted; at most %d are allowed", i+1, held, alone, bytes)
		}
	}
}

// The newest events of a type are looked for while all others wait.
func TestEventsOfATypeAreSoughtAmongSoMany(t *testing.T) {
	b := newBroker(t)
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	rare := Op{Kind: KindEvent, Event: sse.Event{Type: "rare", Data: []byte("far")}}
	rare.Channel = "c0"
	publishAll(t, b, rare)
	for i := range maxSought / len(names) {
		if i == 1 {
			rare.Channel, rare.Event.Data = "c1", []byte("near")
			publishAll(t, b, rare)
		}
		publish(t, b, "c0", "x")
		publish(t, b, "c1", "x")
	}
	start := func(types ...string) *Subscription {
		return subscribeTo(t, b, SubscribeOptions{ID: "me", Channels: names, Types: types, Start: Start{Last: 1}})
	}
	expect(t, start("other", "rare"), "near")
	expect(t, start("none"), "")
	expect(t, start(), "x x")
	expect(t, subscribeTo(t, b, SubscribeOptions{ID: "me", Channels: names[:2], Types: []string{"rare"}, Start: Start{Last: 1}}), "far near")
}
