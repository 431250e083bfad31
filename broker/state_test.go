package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func set(channel, value string) Op {
	op := Op{Kind: KindState, Channel: channel, State: &StateOp{}}
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

func TestWhoComesBackGetsWhatChangedSince(t *testing.T) {
	b := stateBroker(t)
	start := publishAll(t, b, set("a", "1"), set("b", "1"), set("c", "1"))
	at := start[2].ID.String()
	resume := func(at string, channels ...string) string {
		t.Helper()
		s := subscribeTo(t, b, SubscribeOptions{Channels: channels, Start: Start{LastEventID: at}})
		if s.Opening() {
			t.Error("who comes back holds a cursor already")
		}
		return frames(t, s)
	}
	if got := resume(at, "a", "b", "c", "d"); got != "" {
		t.Errorf("nothing has changed: %s", got)
	}
	publishAll(t, b, set("a", "2"), set("a", "3"), set("c", ""))
	if got, want := resume(at, "a", "b", "c", "d"), `event: c data: {"deleted":true}|event: a data: {"value":3}|`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := resume(at, "*"), `event: c data: {"deleted":true}|event: a data: {"value":3}|`; got != want {
		t.Errorf("by a pattern: %s, want %s", got, want)
	}
	publishAll(t, b, set("c", "4"))
	if got, want := resume(at, "c"), `event: c data: {"value":4}|`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAfterAGapComesTheValue(t *testing.T) {
	b := stateBroker(t, func(c *Config) { c.History = Policy{Events: 2, Bytes: 1 << 20} })
	first := publishAll(t, b, text("1"), set("a", "1"), set("b", "1"))
	publishAll(t, b, text("2"), text("3"), text("4"))
	for name, row := range map[string]struct{ at, want string }{
		"trimmed":   {first[2].ID.String(), `gap: trimmed|event: a data: {"value":1}|event: b data: {"value":1}|`},
		"unknown":   {"nonsense", `gap: unknown|event: a data: {"value":1}|event: b data: {"value":1}|`},
		"restarted": {"1-1", `gap: restarted|event: a data: {"value":1}|event: b data: {"value":1}|`},
	} {
		t.Run(name, func(t *testing.T) {
			publishAll(t, b, Op{Kind: KindPurge, Channel: "a"})
			if row.at == "" {
				return
			}
			at := row.at
			s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a", "b"}, Start: Start{LastEventID: at}})
			if got := frames(t, s); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestAReaderThatFallsFarBehindGetsTheNewestOnly(t *testing.T) {
	for name, names := range map[string][]string{"a channel": {"a"}, "a pattern": {"*"}} {
		t.Run(name, func(t *testing.T) {
			b := stateBroker(t, func(c *Config) { c.History.Bytes = MinBytes })
			publishAll(t, b, set("a", "0"), set("quiet", "0"))
			s := subscribeTo(t, b, SubscribeOptions{Channels: append(names, "quiet")})
			frames(t, s)
			for i := range 1000 {
				publishAll(t, b, set("a", "1"+strings.Repeat("0", 100)+strconv.Itoa(i)))
			}
			publishAll(t, b, set("a", "1"))
			if got := frames(t, s); !strings.HasSuffix(got, `event: a data: {"value":1}|`) || strings.Count(got, "|") != 1 {
				t.Errorf("got %s", got)
			}
			r := publishAll(t, b, set("a", "2"))
			if got := frames(t, s, r); got != `#1 event: a data: {"value":2}|` {
				t.Errorf("then %s", got)
			}
		})
	}
}

// The changes of a pattern are dropped first, then those of a channel in it: the
// values that are told for the one do not count on the other's changes.
func TestNamesThatOverlapFallBehindOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stateBroker(t, func(c *Config) { c.History.Bytes = 4 << 10 })
		publishAll(t, b, set("j/1", "0"), set("j/2", "0"))
		s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"j/*", "j/2"}})
		frames(t, s)
		for _, v := range []string{`"1`, `"2`, `"new`} {
			publishAll(t, b, set("j/2", v+strings.Repeat(" ", 600)+`"`))
		}
		for i := range 10 {
			publishAll(t, b, set("j/1", `"`+strings.Repeat("x", 1000+i)+`"`)) // over the pattern's 4 KiB
		}
		var batch Batch
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		got := string(batch.Bytes)
		time.Sleep(20 * time.Second) // it is stalled in the write of that
		got += frames(t, s)
		if n := strings.Count(got, `{"value":"new `); n != 1 {
			t.Errorf("the value of j/2 was told %d times: %q", n, got)
		}
	})
}

// Only so many removals are remembered by name. A reader that lags by more gets a
// gap, and is told all that there is.
func TestWhoMissedMoreRemovalsThanAreRememberedGetsAGap(t *testing.T) {
	for name, join := range map[string]bool{"as it falls behind": false, "as it joins": true} {
		t.Run(name, func(t *testing.T) {
			b := stateBroker(t, func(c *Config) { c.History.Bytes = MinBytes })
			publishAll(t, b, set("stays", "1"))
			for i := range maxFloorNames + 1 {
				publishAll(t, b, set("n"+strconv.Itoa(i), "1"))
			}
			s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"*"}})
			if n := strings.Count(frames(t, s), "|"); n != maxFloorNames+2 {
				t.Fatalf("%d values", n)
			}
			for i := range maxFloorNames + 1 {
				publishAll(t, b, set("n"+strconv.Itoa(i), ""))
			}
			if join {
				if err := s.Join("stays", Start{}); err != nil {
					t.Fatal(err)
				}
			}
			got := frames(t, s)
			if !strings.HasPrefix(got, "gap: trimmed|") || strings.Count(got, `event: stays data: {"value":1}|`) != 1 {
				t.Errorf("got %.200s", got)
			}
		})
	}
}

func TestManyValuesComeAPartAtATime(t *testing.T) {
	b := stateBroker(t)
	const n = 5000
	ops := make([]Op, 0, n)
	for i := range n {
		ops = append(ops, set("room/"+strconv.Itoa(i), strconv.Itoa(i)), set("other/"+strconv.Itoa(i), "0"))
	}
	publishAll(t, b, ops...)
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"room/*"}})
	have := map[string]string{}
	reads := 0
	for batch := (Batch{More: true, Decode: true}); batch.More; reads++ {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		for _, d := range batch.Deliveries {
			if _, again := have[d.Channel]; again && reads < 20 {
				t.Errorf("%s came twice", d.Channel)
			}
			if have[d.Channel] = string(d.State.Value); d.State.Value == nil {
				delete(have, d.Channel)
			}
		}
		if len(batch.Deliveries) > 1000 {
			t.Errorf("%d values at once", len(batch.Deliveries))
		}
		if reads == 10 { // on the way, some change
			publishAll(t, b, set("room/0", "-1"), set("room/4000", ""), set("room/4999", "-2"), set("room/new", "3"), set("other/new", "3"))
		}
	}
	for i := range n {
		name, want := "room/"+strconv.Itoa(i), strconv.Itoa(i)
		switch i {
		case 0:
			want = "-1"
		case 4000:
			want = ""
		case 4999:
			want = "-2"
		}
		if have[name] != want {
			t.Errorf("%s is %q, want %q", name, have[name], want)
		}
	}
	if len(have) != n || have["room/new"] != "3" {
		t.Errorf("there are %d, and %q", len(have), have["room/new"])
	}
}

func TestAPatchFollowsOnlyWhatItWasComputedFrom(t *testing.T) {
	for format, patches := range map[StateFormat][2]string{
		FormatMergePatch: {`{"n":2}`, `{"n":4}`},
		FormatJSONPatch:  {`[{"op":"replace","path":"/n","value":2}]`, `[{"op":"replace","path":"/n","value":4}]`},
	} {
		b := stateBroker(t, func(c *Config) { c.State.Format = format })
		long := strings.Repeat("x", 100)
		value := func(n int) string { return fmt.Sprintf(`{"n":%d,"long":%q}`, n, long) }
		publishAll(t, b, set("a", value(1)))
		s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
		late := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}}) // does not read yet
		if got, want := frames(t, s), `event: a data: {"value":`+value(1)+`}|`; got != want {
			t.Fatalf("at first: %s, want %s", got, want)
		}
		r := publishAll(t, b, set("a", value(2)))
		if got, want := frames(t, s, r), `#1 event: a data: {"patch":`+patches[0]+`}|`; got != want {
			t.Errorf("a change: %s, want %s", got, want)
		}
		at := r[0].ID.String()
		// What it was computed from never reached this one.
		if got, want := frames(t, late, r), `#1 event: a data: {"value":`+value(2)+`}|`; got != want {
			t.Errorf("a reader that was to be told the value before: %s, want %s", got, want)
		}
		r = publishAll(t, b, set("a", value(3)), set("a", value(4)))
		if got := frames(t, late, r); !strings.HasSuffix(got, `#2 event: a data: {"patch":`+patches[1]+`}|`) {
			t.Errorf("two at once: %s", got)
		}
		back := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}, Start: Start{LastEventID: at}})
		if got, want := frames(t, back), `event: a data: {"value":`+value(4)+`}|`; got != want {
			t.Errorf("who comes back: %s, want %s", got, want)
		}
		frames(t, s)
		for i := range 100 {
			publishAll(t, b, set("a", value(i+10)))
		}
		r = publishAll(t, b, set("a", value(5)))
		if got, want := frames(t, s, r), `#1 event: a data: {"value":`+value(5)+`}|`; got != want {
			t.Errorf("a reader that lags: %s, want %s", got, want)
		}
		for _, row := range [][2]string{
			{`[1]`, `{"value":[1]}`}, {`null`, `{"value":null}`}, {value(1), `{"value":` + value(1) + `}`}, {``, `{"deleted":true}`}, {`{}`, `{"value":{}}`},
		} {
			r := publishAll(t, b, set("a", row[0]))
			if got := frames(t, s, r); got != `#1 event: a data: `+row[1]+`|` {
				t.Errorf("%s is told by %s", row[0], got)
			}
		}
	}
}

func TestJoiningAndLeavingWithValues(t *testing.T) {
	b := stateBroker(t)
	publishAll(t, b, set("a", "1"), set("b", "1"), set("b/x", "1"))
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
	frames(t, s)
	for _, step := range []struct{ join, leave, want string }{
		{join: "b", want: `event: b data: {"value":1}|`},
		{join: "b/*", want: `event: b/x data: {"value":1}|`},
		{join: "*", want: ``}, // both were told
		{leave: "b", want: ``},
		{leave: "*", want: ``},
		{join: "b", want: `event: b data: {"value":1}|`},
	} {
		if step.join != "" {
			if err := s.Join(step.join, Start{}); err != nil {
				t.Fatal(err)
			}
		} else {
			s.Leave(step.leave)
		}
		if got := frames(t, s); got != step.want {
			t.Errorf("%+v: got %s", step, got)
		}
	}
	s.Leave("b/*")
	r := publishAll(t, b, set("a", "2"), set("b/x", "2"), set("b", "2"))
	if got := frames(t, s, r); got != `#1 event: a data: {"value":2}|#3 event: b data: {"value":2}|` {
		t.Errorf("got %s", got)
	}
}

// What a reader has not come to when it joins comes once, whichever of its names
// it leaves before it reads on.
func TestWhatIsPendingAtAJoinIsNotLostToALeave(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before        []string
		joins, leaves string
		want          string
	}{
		{"a channel for a pattern", []string{"*"}, "a", "*", `event: a data: {"value":2}|#2 data: x|`},
		{"a pattern for a channel", []string{"a"}, "*", "a", `event: a data: {"value":2}|event: b data: {"value":1}|#2 data: x|`},
		{"a pattern for a pattern", []string{"*"}, "a*", "*", `event: a data: {"value":2}|#2 data: x|`},
		{"a channel, which is left again", []string{"*"}, "a", "a", `event: a data: {"value":2}|#2 data: x|`},
		{"another channel", []string{"a"}, "b", "b", `event: a data: {"value":2}|#2 data: x|`},
		{"another channel, which stays", []string{"a"}, "b", "a", `event: b data: {"value":1}|`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := stateBroker(t)
			publishAll(t, b, set("a", "1"), set("b", "1"))
			s := subscribeTo(t, b, SubscribeOptions{Channels: tt.before})
			frames(t, s)
			r := publishAll(t, b, set("a", "2"), Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: []byte("x")}})
			if err := s.Join(tt.joins, Start{}); err != nil {
				t.Fatal(err)
			}
			if !s.Leave(tt.leaves) {
				t.Fatal("it did not read it")
			}
			if got := frames(t, s, r); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			later := publishAll(t, b, set("a", "3"))
			want := `#1 event: a data: {"value":3}|`
			if tt.leaves == "a" && tt.joins != "*" && tt.joins != "a" {
				want = ""
			}
			if got := frames(t, s, later); got != want {
				t.Errorf("then %s, want %s", got, want)
			}
		})
	}
}

// A name that is joined may not keep what another of the reader's names is still
// to deliver: it is announced when that one is left before.
func TestWhatOnlyTheNameThatIsLeftCouldDeliverIsAGap(t *testing.T) {
	b := stateBroker(t, func(c *Config) { c.Rules = []Rule{{Pattern: "a", Policy: Policy{Bytes: MinBytes}}} })
	for _, leave := range []bool{false, true} {
		s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"*"}})
		r := publishAll(t, b, Op{Kind: KindEvent, Channel: "a", Event: sse.Event{Data: []byte("x")}})
		if err := s.Join("a", Start{}); err != nil {
			t.Fatal(err)
		}
		want := "#1 data: x|"
		if leave {
			s.Leave("*")
			want = "gap: trimmed|"
		}
		if got := frames(t, s, r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if s.Leave("*"); frames(t, s) != "" {
			t.Error("a gap was announced of what was delivered")
		}
	}
}

// Joining and leaving without reading takes no more and no more memory.
func TestJoiningAgainAndAgainIsBounded(t *testing.T) {
	b := stateBroker(t)
	publishAll(t, b, set("a", "1"), set("b", "1"))
	s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a"}})
	for i := range 100 {
		publishAll(t, b, set("a", strconv.Itoa(i)))
		if err := s.Join("b", Start{}); err != nil {
			t.Fatal(err)
		}
		if n := len(s.walks); n > maxWalks+1 {
			t.Fatalf("%d walks", n)
		}
		s.Leave("b")
	}
	if got := frames(t, s); !strings.HasSuffix(got, `event: a data: {"value":99}|`) || strings.Contains(got, "event: b") {
		t.Errorf("got %s", got)
	}
}

func TestBadStateIsRefused(t *testing.T) {
	b := stateBroker(t, func(c *Config) { c.MaxStates, c.MaxStateBytes = 3, 200<<10 })
	big := `"` + strings.Repeat("x", MaxState-2) + `"`
	for name, row := range map[string]struct {
		op   Op
		want error
	}{
		"no name":         {set("", "1"), ErrName},
		"beneath":         {set("a/", "1"), ErrName},
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
	full := func(channel, value string) bool {
		t.Helper()
		results, err := b.Publish(context.Background(), []Op{set(channel, value)})
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

func TestAValueGoesWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stateBroker(t, func(c *Config) { c.State.TTL = time.Minute })
		s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a", "b"}})
		publishAll(t, b, set("a", "1"), set("b", "1"))
		frames(t, s)
		time.Sleep(40 * time.Second)
		publishAll(t, b, set("b", "1.0")) // tells nobody, and is a write
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		if got := frames(t, s); got != "" {
			t.Errorf("before its time: %s", got)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := frames(t, s); !strings.HasSuffix(got, ` event: a data: {"deleted":true}|`) || strings.Count(got, "|") != 1 {
			t.Errorf("at its time: %s", got)
		}
		if b.State("a").Value != nil || string(b.State("b").Value) != "1" {
			t.Error("the wrong value is gone")
		}
		time.Sleep(41 * time.Second)
		synctest.Wait()
		if got := frames(t, s); !strings.HasSuffix(got, ` event: b data: {"deleted":true}|`) {
			t.Errorf("a minute after it was written again: %s", got)
		}

		publishAll(t, b, set("a", "1"))
		cfg := *b.config.Load()
		cfg.State.TTL = 0
		if err := b.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if b.State("a").Value == nil {
			t.Error("a value goes whose time has no end any more")
		}
		cfg.State.TTL = time.Minute
		if err := b.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if b.State("a").Value != nil {
			t.Error("a value is there whose time has got an end, long ago")
		}
		if n := b.Stats().States; n != 0 {
			t.Errorf("%d values are left", n)
		}
		for i := range 1000 { // more than one append removes
			publishAll(t, b, set("n/"+strconv.Itoa(i), "1"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := b.Stats().States; n != 0 {
			t.Errorf("%d values are left", n)
		}
	})
}

// countingLog counts what is appended to a log.
type countingLog struct {
	*MemoryLog
	appends atomic.Int64
}

func (l *countingLog) Append(ctx context.Context, ops []Op) ([]Result, error) {
	l.appends.Add(1)
	return l.MemoryLog.Append(ctx, ops)
}

// The log decides when a time is over. Where its clock is behind, it is asked
// again, but not all the time.
func TestALogWhoseClockStepsBackIsNotAskedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behind atomic.Int64
		log := &countingLog{MemoryLog: newMemory(func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) })}
		c := DefaultConfig()
		c.State.TTL = time.Second
		b, err := New(log, c)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		publishAll(t, b, set("a", "1"))
		behind.Store(int64(10 * time.Minute))
		time.Sleep(10 * time.Minute)
		if n := log.appends.Load(); n < 10 || n > 650 || b.State("a").Value == nil {
			t.Errorf("it was asked %d times in ten minutes, and a is %s", n, b.State("a").Value)
		}
		time.Sleep(4 * time.Second)
		if b.State("a").Value != nil {
			t.Error("the value outlives its time")
		}
	})
}

func TestAValueGoesWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stateBroker(t)
		watcher := subscribeTo(t, b, SubscribeOptions{Channels: []string{"*"}})
		session := subscribeTo(t, b, SubscribeOptions{ID: "s", Channels: []string{"x"}})
		bind := func(channel, value, session string) {
			t.Helper()
			op := set(channel, value)
			op.State.Session = session
			publishAll(t, b, op)
		}
		bind("a", "1", "s")
		bind("b", "1", "s")
		bind("c", "1", "s")
		bind("c", "1", "") // not bound any more
		if _, err := b.Update(context.Background(), Update{Channel: "b"}, func(old State) ([]byte, error) {
			return append(old.Value, '0'), nil
		}); err != nil { // bound as before
			t.Fatal(err)
		}
		if got := b.State("b"); string(got.Value) != "10" || got.Session != "s" {
			t.Errorf("b is %+v", got)
		}
		frames(t, watcher)
		session.Close()
		synctest.Wait()
		if got := frames(t, watcher); strings.Count(got, `{"deleted":true}`) != 2 || strings.Contains(got, "event: c") {
			t.Errorf("got %s", got)
		}
		if b.State("a").Value != nil || b.State("b").Value != nil || b.State("c").Value == nil {
			t.Error("the wrong values are gone")
		}
		if _, err := b.Publish(context.Background(), []Op{{Kind: KindState, Channel: "a", State: &StateOp{Value: []byte("1"), Session: "s"}}}); !errors.Is(err, ErrNoSession) {
			t.Errorf("a session that has ended: %v", err)
		}
		if len(b.keeper.ended)+len(b.states.bound)+len(b.keeper.open) != 0 {
			t.Errorf("left: %v %v %v", b.keeper.ended, b.states.bound, b.keeper.open)
		}
	})
}

// A session that ends while a value is bound to it leaves nothing behind.
func TestAValueDoesNotOutliveASessionThatEndsAsItIsBound(t *testing.T) {
	b := stateBroker(t)
	var wg sync.WaitGroup
	for i := range 50 {
		id := strconv.Itoa(i)
		s, err := b.Subscribe(SubscribeOptions{ID: id, Channels: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			op := set("a/"+id, "1")
			op.State.Session = id
			if _, err := b.Publish(context.Background(), []Op{op}); err != nil && !errors.Is(err, ErrNoSession) {
				t.Error(err)
			}
		})
		wg.Go(s.Close)
	}
	wg.Wait()
	for until := time.Now().Add(10 * time.Second); b.Stats().States > 0; {
		if time.Now().After(until) {
			t.Fatalf("%d values are left", b.Stats().States)
		}
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
	for _, channel := range []string{"raw/1", "patched/1"} {
		wg.Go(func() {
			for i := range last + 1 {
				publishAll(t, b, set(channel, fmt.Sprintf(`{"n":%d,"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`, i)))
			}
		})
		for r := range 8 {
			names := []string{channel}
			if r%2 == 1 {
				names = []string{strings.TrimSuffix(channel, "1") + "*"}
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
