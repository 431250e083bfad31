package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

func stateBroker(t testing.TB, configure ...func(*Config)) *Broker {
	t.Helper()
	cfg := DefaultConfig()
	for _, change := range configure {
		change(&cfg)
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

func set(name, value string) Op {
	op := Op{Kind: KindState, Channel: name, State: &StateOp{}}
	if value != "" {
		op.State.Value = []byte(value)
	}
	return op
}

func publishAll(t testing.TB, b *Broker, ops ...Op) []Result {
	t.Helper()
	results, err := b.Publish(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return results
}

func text(data string) Op {
	return Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}}
}

func subscribeTo(t testing.TB, b *Broker, o SubscribeOptions) *Subscription {
	t.Helper()
	s, err := b.Subscribe(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// frames is all that is new to s, as it goes over the wire; "#n" stands for
// the id of the n-th entry of those that ids has.
func frames(t testing.TB, s *Subscription, ids ...[]Result) string {
	t.Helper()
	var out strings.Builder
	for batch := (Batch{More: true}); batch.More; {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		if batch.Gap != nil {
			out.WriteString("gap: " + batch.Gap.Reason + "\n\n")
		}
		out.Write(batch.Bytes)
	}
	got := out.String()
	n := 0
	for _, results := range ids {
		for _, r := range results {
			n++
			got = strings.ReplaceAll(got, "id: "+r.ID.String()+"\n", "#"+strconv.Itoa(n)+" ")
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(got, "\n\n", "|"), "\n", " ")
}

func TestAReaderGetsTheValueThenEachChange(t *testing.T) {
	b := stateBroker(t)
	publishAll(t, b, set("a", "1"))
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
	if !s.Opening() {
		t.Error("the reader has its values before it has read any")
	}
	if got := frames(t, s); got != `event: a data: {"value":1}|` {
		t.Errorf("at first: %s", got)
	}
	if s.Opening() {
		t.Error("the reader is still to be told of what it was told")
	}
	r := publishAll(t, b, set("a", " 2 "), text("x"), set("a", `{"b": null, "a":"\u00e9"}`), set("a", ""))
	if got := frames(t, s, r); got != `#2 data: x|#4 event: a data: {"deleted":true}|` {
		t.Errorf("of several at once, the newest: %s", got)
	}
	for i, step := range []struct{ value, want string }{
		{"null", `#1 event: a data: {"value":null}|`},
		{"null", ``},
		{"9223372036854775808", `#1 event: a data: {"value":9223372036854775808}|`},
		{"0.10", `#1 event: a data: {"value":0.10}|`},
		{"0.1", ``},
		{"", `#1 event: a data: {"deleted":true}|`},
	} {
		r := publishAll(t, b, set("a", step.value))
		if got := frames(t, s, r); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}

func TestValuesStandBetweenTheEventsThatTheyWereSetBetween(t *testing.T) {
	b := stateBroker(t)
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
	r := publishAll(t, b, text("1"), set("a", "1"), text("2"), set("a", "2"), text("3"))
	if got, want := frames(t, s, r), `#1 data: 1|#3 data: 2|#4 event: a data: {"value":2}|#5 data: 3|`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFramesTakeTheFormThatIsAsked(t *testing.T) {
	b := stateBroker(t, func(c *Config) {
		c.Rules = []Rule{{Pattern: "a", Policy: c.History, State: StatePolicy{Key: `n"<`}}}
	})
	publishAll(t, b, set("a", `"x"`), set("b/1", "1"))
	for name, row := range map[string]struct {
		o            SubscribeOptions
		first, later string
	}{
		"a key":      {SubscribeOptions{Channels: []string{"a"}}, `event: a data: {"n\"<":"x"}|`, `#1 event: a data: {"n\"<":2}|`},
		"envelope":   {SubscribeOptions{Channels: []string{"a"}, Envelope: true}, `event: a data: {"ch":"a","event":"a","data":"{\"n\\\"\u003c\":\"x\"}"}|`, `#1 event: a data: {"ch":"a","event":"a","data":"{\"n\\\"\u003c\":2}"}|`},
		"its type":   {SubscribeOptions{Channels: []string{"a"}, Types: []string{"a", "goal"}}, `event: a data: {"n\"<":"x"}|`, `#1 event: a data: {"n\"<":2}|`},
		"other type": {SubscribeOptions{Channels: []string{"a"}, Types: []string{"goal"}}, ``, ``},
		"a pattern":  {SubscribeOptions{Channels: []string{"b/*"}}, `event: b/1 data: {"value":1}|`, `#2 event: b/1 data: {"value":3}|`},
		"both":       {SubscribeOptions{Channels: []string{"b/*", "b/1", "**"}}, `event: b/1 data: {"value":1}|event: a data: {"n\"<":"x"}|`, `#1 event: a data: {"n\"<":2}|#2 event: b/1 data: {"value":3}|`},
	} {
		t.Run(name, func(t *testing.T) {
			s := subscribeTo(t, b, row.o)
			if got := frames(t, s); got != row.first {
				t.Errorf("at first: %s\nwant %s", got, row.first)
			}
			r := publishAll(t, b, set("a", "2"), set("b/1", "3"))
			if got := frames(t, s, r); got != row.later {
				t.Errorf("then: %s\nwant %s", got, row.later)
			}
			publishAll(t, b, set("a", `"x"`), set("b/1", "1"))
		})
	}
}

func TestBadStateIsRefused(t *testing.T) {
	b := stateBroker(t, func(c *Config) { c.MaxStates, c.MaxStateBytes = 3, 200<<10 })
	big := `"` + strings.Repeat("x", MaxState-2) + `"`
	for name, row := range map[string]struct {
		op   Op
		want error
	}{
		"no name":         {set("", "1"), channel.ErrName},
		"beneath":         {set("a/", "1"), channel.ErrName},
		"the hub's":       {set("evstream.gap", "1"), ErrStateName},
		"too large":       {set("a", big[:5]+big[4:]), ErrStateTooLarge},
		"as large as can": {set("a", big), nil},
		"no such session": {Op{Kind: KindState, Channel: "a", State: &StateOp{Value: []byte("1"), Session: "s"}}, ErrNoSession},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := b.Publish(context.Background(), []Op{row.op}); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	if _, err := b.Publish(context.Background(), []Op{set("a", "{")}); err == nil {
		t.Error("what is no JSON is taken")
	}
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindState, Channel: "a"}}); err == nil {
		t.Error("an operation that says nothing is taken")
	}
	full := func(ch, value string) bool {
		t.Helper()
		results, err := b.Publish(context.Background(), []Op{set(ch, value)})
		if err != nil {
			t.Fatal(err)
		}
		return errors.Is(results[0].Err, ErrStateFull)
	}
	if full("a", big) || full("b", big) || full("c", "1") {
		t.Error("values within the bounds are refused")
	}
	if !full("d", "1") {
		t.Error("a value too many is taken")
	}
	if s := b.Stats(); s.States != 3 || s.StateBytes != 2*(MaxState+1)+2 || s.StateRefused == 0 {
		t.Errorf("stats %+v", s)
	}
	if err := b.Configure(func() Config { c := *b.config.Load(); c.MaxStateBytes = 1; return c }()); err != nil {
		t.Fatal(err)
	}
	if full("a", "1") || !full("c", "22") || string(b.State("b").Value) != big {
		t.Error("smaller bounds evict a value, take a larger one, or refuse a smaller one")
	}
}

func TestAnUpdateLosesNothing(t *testing.T) {
	b := stateBroker(t)
	increment := func(old State) ([]byte, error) {
		n, _ := strconv.Atoi(string(old.Value))
		return strconv.AppendInt(nil, int64(n+1), 10), nil
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				r, err := b.Update(context.Background(), Update{Channel: "a"}, increment)
				if err != nil || string(b.State("a").Value) == "" || r.State == nil {
					t.Error(r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := string(b.State("a").Value); got != "3200" {
		t.Errorf("got %s, want 3200", got)
	}

	// Others that write all the time.
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					publishAll(t, b, set("b", strconv.Itoa(i%2)))
				}
			}
		})
	}
	for range 20 {
		if _, err := b.Update(context.Background(), Update{Channel: "b"}, increment); err != nil && !errors.Is(err, ErrContended) {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()

	no := errors.New("no")
	if _, err := b.Update(context.Background(), Update{Channel: "a"}, func(State) ([]byte, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if r, err := b.Update(context.Background(), Update{Channel: "none"}, func(State) ([]byte, error) { return nil, nil }); err != nil || !r.Unchanged {
		t.Errorf("got %+v, %v", r, err)
	}
	key := Update{Channel: "c", Key: Key{"me", "k"}, Asked: []byte("+1"), Answer: true}
	for i := range 3 {
		r, err := b.Update(context.Background(), key, increment)
		if err != nil || string(r.State.Value) != "1" || !r.Created || r.Repeated != (i > 0) {
			t.Errorf("try %d: %+v %v", i, r, err)
		}
		publishAll(t, b, set("c", "7"))
	}
	key.Asked = []byte("+2")
	if _, err := b.Update(context.Background(), key, increment); !errors.Is(err, ErrKeyReused) {
		t.Errorf("got %v", err)
	}
}

// What a key belongs to is what was asked for: the session that the value is
// bound to already is no part of it, and one that is gone by the second try is
// not asked for again.
func TestAKeyedUpdateOfABoundValueIsDoneOnce(t *testing.T) {
	b := stateBroker(t)
	s := subscribeTo(t, b, SubscribeOptions{ID: "s", Channels: []string{"x"}})
	bound := set("a", "1")
	bound.State.Session = "s"
	publishAll(t, b, bound)
	increment := func(old State) ([]byte, error) {
		n, _ := strconv.Atoi(string(old.Value))
		return strconv.AppendInt(nil, int64(n+1), 10), nil
	}
	carried := Update{Channel: "a", Key: Key{"me", "k"}, Asked: []byte("+1"), Answer: true}
	session := "s"
	asked := Update{Channel: "b", Session: &session, Key: Key{"me", "l"}, Asked: []byte("+1 for s"), Answer: true}
	for _, tt := range []struct {
		name  string
		u     Update
		value string
	}{{"that it has", carried, "2"}, {"that is asked for", asked, "1"}} {
		for try := range 3 {
			if try == 2 {
				s.Close()
			}
			r, err := b.Update(context.Background(), tt.u, increment)
			if err != nil || r.State == nil || string(r.State.Value) != tt.value || r.Repeated != (try > 0) {
				t.Errorf("the session %s, try %d: %+v %v", tt.name, try, r, err)
			}
		}
		s = subscribeTo(t, b, SubscribeOptions{ID: "s", Channels: []string{"x"}})
	}
}

// State does not count in the history, nor is it in the way of events.
func TestStateIsNoPartOfTheHistory(t *testing.T) {
	b := stateBroker(t, func(c *Config) { c.History = Policy{Events: 3, Bytes: 64 << 10} })
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
	r := publishAll(t, b, text("1"), text("2"), text("3"))
	for i := range 1000 {
		publishAll(t, b, set("a", "1"+strings.Repeat("1", 1000)+strconv.Itoa(i)))
	}
	frames(t, s)
	info, _ := b.Channel("a")
	if info.Events != 3 || info.Oldest != r[0].ID || info.Newest != r[2].ID {
		t.Errorf("kept: %+v", info)
	}
	again := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}, Start: Start{Earliest: true}})
	if got := frames(t, again, r); !strings.HasSuffix(got, "|#1 data: 1|#2 data: 2|#3 data: 3|") || strings.Count(got, "|") != 4 {
		t.Errorf("got %s", got)
	}
	s.Close()
	again.Close()
	if got := b.Stats().Bytes; got > 4<<10 {
		t.Errorf("%d bytes are held for nobody", got)
	}
	publishAll(t, b, Op{Kind: KindPurge, Channel: "a"})
	if b.State("a").Value == nil {
		t.Error("a purge of the history has removed the value")
	}
}

func TestReadersOfChangingValuesSeeThemRise(t *testing.T) {
	b := stateBroker(t, func(c *Config) {
		c.Rules = []Rule{{Pattern: "patched/*", Policy: c.History, State: StatePolicy{Format: FormatMergePatch}}}
	})
	const last = 2000
	var wg sync.WaitGroup
	for _, name := range []string{"raw/1", "patched/1"} {
		wg.Go(func() {
			for i := range last + 1 {
				publishAll(t, b, set(name, fmt.Sprintf(`{"n":%d,"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`, i)))
			}
		})
		for r := range 8 {
			names := []string{name}
			if r%2 == 1 {
				names = []string{strings.TrimSuffix(name, "1") + "*"}
			}
			wg.Go(func() {
				s, err := b.Subscribe(SubscribeOptions{Channels: names})
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				at := -1
				batch := Batch{Decode: r%4 >= 2}
				for at < last {
					if err := s.Read(&batch); err != nil {
						t.Error(err)
						return
					}
					data := string(batch.Bytes)
					for _, d := range batch.Deliveries {
						data += "data: " + string(d.Event.Data) + "\n"
					}
					for line := range strings.Lines(data) {
						_, rest, ok := strings.Cut(line, `"n":`)
						if !ok || !strings.HasPrefix(line, "data: ") {
							continue
						}
						n, err := strconv.Atoi(rest[:strings.IndexAny(rest, ",}")])
						if err != nil || n <= at || strings.Contains(line, "patch") && n != at+1 {
							t.Errorf("after %d came %s", at, line)
							return
						}
						at = n
					}
					if !batch.More && at < last {
						<-s.Wake()
					}
				}
			})
		}
	}
	wg.Wait()
}
