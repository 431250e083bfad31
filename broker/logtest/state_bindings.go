package logtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// testStateBindings: a value that several sessions are bound to goes with the last.
func testStateBindings(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	bound := func(value, session string) broker.Op {
		op := set("a", value)
		op.State.Session = session
		return op
	}
	ends := func(session string) broker.Op { return bound("", session) }
	did(t, log, bound("1", "n.s1"))
	did(t, log, bound("2", "n.s2"))
	if r := did(t, log, bound("2.0", "n.s1")); !r.Unchanged {
		t.Error("an equal value by a session that is bound already is a change")
	}
	last := did(t, log, bound("2", "m.s3"))
	if s := refused(t, log, ends("n.s")); s.Session != "n.s1 n.s2 m.s3" || s.Version != last.ID {
		t.Errorf("unbound from a session that it is not bound to: %+v", s)
	}
	did(t, log, ends("n.s2"))
	did(t, log, ends("n.s1"))
	refused(t, log, ends("n.s1"))
	all := f.wait(t, 5)
	_ = f.end()
	g := follow(t, log)
	want := map[string]string{"a": all[4].ID.String() + " 2 m.s3"}
	if got := g.values(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	did(t, log, ends("m.s3"))
	refused(t, log, set("a", "", is(broker.IfPresent)))
	var sessions []string
	for _, e := range all {
		sessions = append(sessions, string(e.State.Value)+" "+e.State.Session)
	}
	if got, want := strings.Join(sessions, "|"), "1 n.s1|2 n.s1 n.s2|2 n.s1 n.s2 m.s3|2 n.s1 m.s3|2 m.s3"; got != want {
		t.Errorf("entries %q, want %q", got, want)
	}
}

// testStateBindingsBounded: a session that is one too many is refused, and a write
// without a session unbinds from all.
func testStateBindingsBounded(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	bound := func(value, session string) broker.Op {
		op := set("a", value)
		op.State.Session = session
		return op
	}
	did(t, log, bound("1", "s0"))
	for i := range broker.MaxBindings - 1 {
		did(t, log, bound("1", fmt.Sprintf("a.session-with-a-long-name-%d", i)))
	}
	results, err := log.Append(t.Context(), []broker.Op{bound("1", "more"), bound("3", "s0")})
	if err != nil || !errors.Is(results[0].Err, broker.ErrTooManyBindings) || results[1].Err != nil {
		t.Errorf("over the bound: %v %v", results, err)
	}
	did(t, log, set("a", "3"))
	refused(t, log, bound("", "s0"))
	all := f.wait(t, broker.MaxBindings+2)
	if e := all[len(all)-1]; e.State.Session != "" || string(e.State.Value) != "3" {
		t.Errorf("the last entry %+v", e.State)
	}
	if e := all[len(all)-2]; len(strings.Fields(e.State.Session)) != broker.MaxBindings {
		t.Errorf("the entry before has %q", e.State.Session)
	}
}
