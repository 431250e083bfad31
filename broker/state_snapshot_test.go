package broker

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

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
			for i := range maxMarkedNames + 1 {
				publishAll(t, b, set("n"+strconv.Itoa(i), "1"))
			}
			s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"*"}})
			if n := strings.Count(frames(t, s), "|"); n != maxMarkedNames+2 {
				t.Fatalf("%d values", n)
			}
			for i := range maxMarkedNames + 1 {
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

// Leaving a name ends the values of that one, and tells no other's twice.
func TestLeavingWhileValuesAreTold(t *testing.T) {
	for _, tt := range []struct {
		names       []string
		leave, want string
	}{
		{[]string{"a", "b", "c"}, "b", `event: c data: {"value":1}|`},
		{[]string{"a", "b", "c"}, "a", `event: b data: {"value":1}|event: c data: {"value":1}|`},
		{[]string{"a", "*"}, "*", ``},
		{[]string{"a", "*", "c"}, "*", `event: c data: {"value":1}|`},
		{[]string{"a", "b", "*"}, "b", `event: b data: {"value":1}|event: c data: {"value":1}|`},
	} {
		b := stateBroker(t)
		publishAll(t, b, set("a", "1"), set("b", "1"), set("c", "1"))
		s := subscribeTo(t, b, SubscribeOptions{Channels: tt.names})
		batch := Batch{Max: 1}
		if err := s.Read(&batch); err != nil || !strings.HasPrefix(string(batch.Bytes), "event: a\n") {
			t.Fatalf("%v, %s", err, batch.Bytes)
		}
		s.Leave(tt.leave)
		if got := frames(t, s); got != tt.want {
			t.Errorf("of %v it left %s and got %s, want %s", tt.names, tt.leave, got, tt.want)
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
		if n := len(s.ownValues().snapshots); n > maxSnapshots+1 {
			t.Fatalf("%d walks", n)
		}
		s.Leave("b")
	}
	if got := frames(t, s); !strings.HasSuffix(got, `event: a data: {"value":99}|`) || strings.Contains(got, "event: b") {
		t.Errorf("got %s", got)
	}
}
