package broker

import (
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/channel"
)

// One publisher that goes from channel to channel, each of which is dropped, had every
// reader that came back told of a gap, wherever it read.
func TestLossesInOnePlaceAreNotToldOfOthers(t *testing.T) {
	b := newBroker(t)
	start := publish(t, b, "a", "1")
	lost := ID{start.Ms, start.N + 1}
	here := func(prefix string) string { // what does not share the mark of chat by chance
		for i := 0; ; i++ {
			name := fmt.Sprintf("%s%d", prefix, i)
			if first := b.lossMarks.first; first(name) != first("chat/x") && first(name+"/") != first("chat/x") &&
				b.states.gone.first(name) != b.states.gone.first("chat/x") && b.states.gone.first(name+"/") != b.states.gone.first("chat/x") {
				return name
			}
		}
	}
	orders, users := here("orders"), here("users")
	publish(t, b, "chat/kept", "2")
	drop := func(m *lossMarks) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for i := range 20 * maxMarkedNames { // more than are known, and of all hashes
			m.raise(fmt.Sprintf("chat/%d", i), lost)
		}
	}
	back := Start{LastEventID: start.String()}
	drop(&b.lossMarks)
	expect(t, subscribe(t, b, back, "chat/kept"), "2")
	expectGap(t, subscribe(t, b, back, "chat/5"), ReasonTrimmed, "")
	for _, name := range []string{"chat/**", "chat/*", "c*/kept", "**"} {
		expectGap(t, subscribe(t, b, back, name), ReasonTrimmed, "2")
	}
	drop(&b.states.gone) // removed values
	for _, name := range []string{orders, orders + "/7", orders + "/7/new", users + "/ada/**", users + "/*", users + "/*/news"} {
		expect(t, subscribe(t, b, back, name), "")
	}
}

// The same where the names that come and go have no segment in common, as those of the
// rule match.* have: each was a first segment, so that soon all marks were theirs.
func TestLossesOfOneBeginningAreNotToldOfOthers(t *testing.T) {
	b := newBroker(t)
	start := publish(t, b, "a", "1")
	kept := ""
	for i := 0; kept == "" || sharesDigits(&b.lossMarks, kept); i++ {
		kept = fmt.Sprintf("match.%c", 'a'+i)
	}
	publish(t, b, kept, "2")
	back := Start{LastEventID: start.String()}
	drop := func(m *lossMarks, begin string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for i := range 20 * maxMarkedNames { // more than are known, and of all hashes
			m.raise(fmt.Sprintf("%s%d", begin, i), ID{start.Ms, start.N + 1})
		}
	}
	drop(&b.lossMarks, "match.")
	expect(t, subscribe(t, b, back, kept), "2")
	for _, name := range []string{"match.5", "matc*", "match.*/x", "*"} {
		if _, gap := read(t, subscribe(t, b, back, name)); gap == nil {
			t.Errorf("%s may have lost something, and there is no gap", name)
		}
	}
	drop(&b.states.gone, "match.") // removed values
	for _, name := range []string{"orders/7", "orders", "mat.7", "user-*", "mailbox.*", "orders*/**"} {
		expect(t, subscribe(t, b, back, name), "")
	}
}

// sharesDigits reports whether the mark of a name's beginning is by chance that of a name
// with a digit in the place of its last byte.
func sharesDigits(m *lossMarks, name string) bool {
	for digit := range 10 {
		if m.start(name) == m.start(fmt.Sprint(name[:len(name)-1], digit)) {
			return true
		}
	}
	return false
}

// A mark is never too low: not that of a name, of the names that a pattern selects, or
// of what lies beneath.
func TestAForgottenLossIsNotMissed(t *testing.T) {
	m := newLossMarks()
	names := []string{"a", "a/b", "a/b/c", "a/", "a/b/", "x.1", "x.2/y", "a-b", "a-b/c", "a_long_name.of_more_than_sixteen"}
	marks := map[string]ID{}
	at := ID{1000, 0}
	for round := range 3 {
		for _, name := range names {
			at.N++
			marks[name] = at
			m.raise(name, at)
		}
		for i := range maxMarkedNames * round {
			m.raise(fmt.Sprintf("other/%d/%d", round, i), at)
		}
		for name, id := range marks {
			if got := m.of(name); id.After(got) {
				t.Errorf("round %d: the mark of %q is %s, and it lost %s", round, name, got, id)
			}
			for _, text := range []string{"**", "a/**", "a/b/**", "a/*", "a*", "a*/**", "*/b", "x.*", "x.*/**", "a/b/c", "a-b/*", "a-*", "a-b*/**", "*.1", "a_long_name.of_mor*"} {
				p, err := channel.ParsePattern(text)
				if err != nil {
					t.Fatal(err)
				}
				if got := m.matching(&p); p.Match(name) && id.After(got) {
					t.Errorf("round %d: the mark of %s is %s, and %q lost %s", round, text, got, name, id)
				}
			}
		}
	}
	if m.all = (ID{2000, 0}); m.of("unknown/name") == (ID{2000, 0}) {
		t.Error("what may have been lost of any name is the mark of one that has lost nothing")
	}
	for _, text := range []string{"unknown/**", "**"} {
		p, err := channel.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.matching(&p); got != m.all {
			t.Errorf("the mark of %s is %s, though any name may have lost %s", text, got, m.all)
		}
	}
}
