package broker

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// newBroker is a broker on a memory log that ends with the test.
func newBroker(t testing.TB, change ...func(*Config)) *Broker {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	b, err := New(NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func publish(t testing.TB, b *Broker, name, data string) ID {
	t.Helper()
	results, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte(data)}}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].ID
}

func subscribe(t testing.TB, b *Broker, start Start, channels ...string) *Subscription {
	t.Helper()
	s, err := b.Subscribe(SubscribeOptions{ID: "me", Channels: channels, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// read is all that is new, as data joined by spaces, and the gap before it.
func read(t testing.TB, s *Subscription) (string, *Gap) {
	t.Helper()
	var data []string
	var gap *Gap
	for more := true; more; {
		batch := Batch{Decode: true, Max: 3}
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		for _, d := range batch.Deliveries {
			data = append(data, string(d.Event.Data))
		}
		if batch.Gap != nil {
			gap = batch.Gap
		}
		more = batch.More
	}
	return strings.Join(data, " "), gap
}

func expect(t testing.TB, s *Subscription, want string) {
	t.Helper()
	got, gap := read(t, s)
	if got != want || gap != nil {
		t.Errorf("read %q, gap %+v; want %q and no gap", got, gap, want)
	}
}

func expectGap(t testing.TB, s *Subscription, reason, want string) {
	t.Helper()
	got, gap := read(t, s)
	if got != want || gap == nil || gap.Reason != reason {
		t.Errorf("read %q, gap %+v; want %q and the gap %q", got, gap, want, reason)
	}
}

func TestEventsArriveInOrderOnEveryChannelOfASubscription(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a", "b")
	publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	publish(t, b, "c", "3")
	publish(t, b, "a", "4")
	expect(t, s, "1 2 4")
	expect(t, s, "")
}

// A reader that wants few of many events does not hold up the other readers that its
// goroutine serves.
func TestOneReadLooksAtSoManyEvents(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.History.Events = 3 * maxSeen })
	for range 2*maxSeen + 1 {
		publish(t, b, "a", "x")
	}
	last := publish(t, b, "b", "wanted")
	publishAll(t, b, Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Type: "rare", Data: []byte("y")}})
	s := subscribeTo(t, b, SubscribeOptions{ID: "me", Channels: []string{"a", "b"}, Types: []string{"rare"}, Start: Start{Earliest: true}})
	var batch Batch
	for i := range 2 {
		if err := s.Read(&batch); err != nil || batch.Events > 0 || !batch.More {
			t.Fatalf("read %d: %d events, more is %t, %v", i, batch.Events, batch.More, err)
		}
	}
	if s.Cursor().IsZero() || s.Cursor().After(last) {
		t.Errorf("the cursor is %s", s.Cursor())
	}
	expect(t, s, "y")
}

func TestReadGivesTheEncodedBytes(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a")
	id := publish(t, b, "a", "x\ny")
	var batch Batch
	if err := s.Read(&batch); err != nil {
		t.Fatal(err)
	}
	if want := "id: " + id.String() + "\ndata: x\ndata: y\n\n"; string(batch.Bytes) != want {
		t.Errorf("read %q, want %q", batch.Bytes, want)
	}
	if s.Cursor() != id || batch.Last != id {
		t.Errorf("cursor %s, last %s; want %s", s.Cursor(), batch.Last, id)
	}
}

func TestResumeContinuesAtTheNextEvent(t *testing.T) {
	b := newBroker(t)
	start := b.Head()
	first := publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	publish(t, b, "a", "3")
	expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "a", "b"), "1 2 3")
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a"), "3")
	expect(t, subscribe(t, b, Start{LastEventID: b.Head().String()}, "a"), "")
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "**"), "2 3")
}

func TestABadCursorIsAGapAndReplaysWhatIsKept(t *testing.T) {
	b := newBroker(t)
	first := publish(t, b, "a", "1")
	second := publish(t, b, "b", "2")
	third := publish(t, b, "a", "3")
	other := NewMemory()
	for name, row := range map[string]struct{ cursor, reason string }{
		"another run":    {other.decide.last.String(), ReasonRestarted},
		"future":         {ID{third.Ms + 5000, third.N}.String(), ReasonRestarted},
		"next number":    {ID{third.Ms, third.N + 1}.String(), ReasonRestarted},
		"zero":           {"0-0", ReasonRestarted},
		"huge":           {"18446744073709551615-18446744073709551615", ReasonRestarted},
		"overflow":       {"99999999999999999999-0", ReasonUnknown},
		"leading zero":   {"01-0", ReasonUnknown},
		"text":           {"abc", ReasonUnknown},
		"line ends":      {"a\r\nid: b", ReasonUnknown},
		"beyond a while": {ID{first.Ms, third.N + 100000}.String(), ReasonRestarted},
	} {
		t.Run(name, func(t *testing.T) {
			expectGap(t, subscribe(t, b, Start{LastEventID: row.cursor}, "a"), row.reason, "1 3")
		})
	}
	expect(t, subscribe(t, b, Start{LastEventID: second.String()}, "a"), "3")
}

func TestTrimmedHistoryIsAGap(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.History.Events = 2 })
	start := b.Head()
	first := publish(t, b, "a", "1")
	publish(t, b, "a", "2")
	publish(t, b, "a", "3")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "a"), ReasonTrimmed, "2 3")
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a"), "2 3")
}

func TestBeneathReachesChannelsOnceEach(t *testing.T) {
	b := newBroker(t)
	start := b.Head()
	both := subscribe(t, b, Start{}, "football/a", "football/b/c", "football")
	other := subscribe(t, b, Start{}, "footballs", "cricket/a")
	wild := subscribe(t, b, Start{}, "*/a", "football/*")
	publish(t, b, "football/", "all")
	publish(t, b, "football/b/", "b")
	expect(t, both, "all b")
	expect(t, other, "")
	expect(t, wild, "all b")
	expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "football/x/y"), "all")
	expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "football/b"), "all b")
}

func TestJoinSendsBacklogWithoutIDs(t *testing.T) {
	b := newBroker(t)
	publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	s := subscribe(t, b, Start{Earliest: true}, "a")
	expect(t, s, "1")
	publish(t, b, "a", "3")
	if err := s.Join("b", Start{Earliest: true}); err != nil {
		t.Fatal(err)
	}
	var batch Batch
	if err := s.Read(&batch); err != nil {
		t.Fatal(err)
	}
	if want := "data: 2\n\nid: " + b.Head().String() + "\ndata: 3\n\n"; string(batch.Bytes) != want {
		t.Errorf("read %q, want %q", batch.Bytes, want)
	}
	publish(t, b, "b", "4")
	publish(t, b, "a", "5")
	expect(t, s, "4 5")
	if !s.Leave("b") || s.Leave("b") {
		t.Error("a channel that was joined is left once")
	}
	publish(t, b, "b", "6")
	publish(t, b, "a", "7")
	expect(t, s, "7")
}

func TestJoinOfWhatIsReadAlreadyBeginsNow(t *testing.T) {
	b := newBroker(t)
	publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	s := subscribe(t, b, Start{Earliest: true}, "a")
	expect(t, s, "1")
	if err := s.Join("*", Start{Earliest: true}); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "")
	publish(t, b, "b", "3")
	publish(t, b, "a", "4")
	expect(t, s, "3 4")
	s.Leave("a")
	publish(t, b, "a", "5")
	expect(t, s, "5")
}

func TestANameBeneathThatWasDroppedIsStillAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) { c.History.Age = time.Minute })
		start := b.Head()
		publish(t, b, "a/", "1")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := b.Stats().Channels; n != 0 {
			t.Fatalf("%d channels are left", n)
		}
		expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "a/b/c"), ReasonTrimmed, "")
		expect(t, subscribe(t, b, Start{LastEventID: start.String()}, "b"), "")
	})
}

func TestLastCountsEachChannelWithWhatIsBeneath(t *testing.T) {
	b := newBroker(t)
	for _, p := range []string{"f/a 1", "f/b 2", "f/ 3", "f/a 4", "f/b 5"} {
		name, data, _ := strings.Cut(p, " ")
		publish(t, b, name, data)
	}
	expect(t, subscribe(t, b, Start{Last: 1}, "f/a", "f/b"), "4 5")
	expect(t, subscribe(t, b, Start{Last: 2}, "f/a"), "3 4")
	expect(t, subscribe(t, b, Start{Last: 9}, "f/a"), "1 3 4")
	expect(t, subscribe(t, b, Start{Last: 2}, "f/*"), "4 5")
	expect(t, subscribe(t, b, Start{Earliest: true}, "**"), "1 2 3 4 5")
}

func TestPurgeIsAGapForThoseWhoMissedWhatItTook(t *testing.T) {
	b := newBroker(t)
	first := publish(t, b, "a", "1")
	caughtUp := subscribe(t, b, Start{}, "a")
	behind := subscribe(t, b, Start{LastEventID: first.String()}, "*")
	publish(t, b, "b", "2")
	second := publish(t, b, "a", "3")
	expect(t, caughtUp, "3")
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "a"}}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a", "4")
	expect(t, caughtUp, "4")
	expectGap(t, behind, ReasonTrimmed, "2 4")
	expectGap(t, subscribe(t, b, Start{LastEventID: first.String()}, "a"), ReasonTrimmed, "4")
	expect(t, subscribe(t, b, Start{LastEventID: second.String()}, "a"), "4")
	expectGap(t, subscribe(t, b, Start{LastEventID: first.String()}, "**"), ReasonTrimmed, "2 4")
}

// A pattern may keep what its channel, dropped from memory, does not.
func TestPurgeOfAChannelThatWasDroppedReachesPatterns(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels = 2 })
	subscribe(t, b, Start{Earliest: true}, "a*")
	publish(t, b, "a1", "secret")
	publish(t, b, "x", "1")
	publish(t, b, "y", "1")
	if _, there := b.Channel("a1"); there {
		t.Fatal("the channel is still in memory")
	}
	expect(t, subscribe(t, b, Start{Earliest: true}, "a*"), "secret")
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "a1"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, subscribe(t, b, Start{Earliest: true}, "a*"), "")
}

// A purge is no gap for readers of other channels through a pattern.
func TestPurgeOfAChannelThatAPatternDoesNotKeepIsNoGapThere(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "*")
	publish(t, b, "a", "1")
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "b"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "1")
}

func TestHistoryOffDeliversLiveOnly(t *testing.T) {
	b := newBroker(t, func(c *Config) {
		c.Rules = []Rule{{Pattern: "live/*", Policy: Policy{Bytes: MinBytes}}}
	})
	start := b.Head()
	s := subscribe(t, b, Start{}, "live/a")
	wild := subscribe(t, b, Start{}, "**")
	publish(t, b, "live/a", "1")
	publish(t, b, "live/a", "2")
	publish(t, b, "kept", "3")
	expect(t, s, "1 2")
	expect(t, wild, "1 2 3")
	expect(t, subscribe(t, b, Start{Earliest: true}, "live/a"), "")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "live/a"), ReasonTrimmed, "")
	expectGap(t, subscribe(t, b, Start{LastEventID: start.String()}, "**"), ReasonTrimmed, "3")
}

func TestPublishersIDResumesWhileItIsKept(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.History.Events = 3 })
	pub := func(id, data string) {
		t.Helper()
		if _, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: "a", Event: sse.Event{ID: id, Data: []byte(data)}}}); err != nil {
			t.Fatal(err)
		}
	}
	pub("x", "1")
	pub("y", "2")
	pub("x", "3")
	expect(t, subscribe(t, b, Start{LastEventID: "x"}, "a"), "2 3")
	expect(t, subscribe(t, b, Start{LastEventID: "y"}, "*"), "3")
	pub("z", "4")
	expect(t, subscribe(t, b, Start{LastEventID: "x"}, "a"), "4")
	expectGap(t, subscribe(t, b, Start{LastEventID: "w"}, "a"), ReasonUnknown, "2 3 4")
}

// What is acknowledged while the broker closes was applied.
func TestWhatIsAcknowledgedWhileClosingIsApplied(t *testing.T) {
	for range 300 {
		b, err := New(NewMemory(), DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		last := make(chan ID)
		go func() {
			var id ID
			for {
				results, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: "a"}})
				if err != nil {
					last <- id
					return
				}
				id = results[0].ID
			}
		}()
		for b.Stats().Published == 0 {
			runtime.Gosched()
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if id := <-last; id.After(b.Head()) {
			t.Fatalf("%s was acknowledged, the head is %s", id, b.Head())
		}
	}
}

func TestAPatternIsFilledBackAsFarAsAReaderNeeds(t *testing.T) {
	b := newBroker(t)
	first := publish(t, b, "a", "1")
	publish(t, b, "b", "2")
	third := publish(t, b, "a", "3")
	publish(t, b, "c", "4")
	behind := subscribe(t, b, Start{LastEventID: third.String()}, "*")
	expect(t, subscribe(t, b, Start{LastEventID: third.String()}, "*"), "4")
	if n := b.patterns["*"].count(); n != 1 {
		t.Errorf("the pattern was filled with %d events, want 1", n)
	}
	// One that needs more, while another lags.
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "*"), "2 3 4")
	expect(t, subscribe(t, b, Start{Earliest: true}, "*"), "1 2 3 4")
	expect(t, behind, "4")
}
