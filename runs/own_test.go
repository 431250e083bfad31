package runs_test

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// deaf is a node whose log tells nothing.
func deaf(t *testing.T) node {
	t.Helper()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	table := runs.New(b, func() int { return 10 }, slog.New(slog.DiscardHandler))
	table.Settled()
	return node{b, table}
}

// Who sees the end of an answer may ask for the next one at once: this node knows what it
// has written itself.
func TestANodeKnowsWhatItHasWritten(t *testing.T) {
	n := deaf(t)
	o, _, err := n.Claim(t.Context(), run("a", "x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := n.Get("a"); !is(runs.Asking)(r) {
		t.Errorf("claimed: %+v", r)
	}
	if err := o.Answered(t.Context(), 200, nil, cut); err != nil {
		t.Fatal(err)
	}
	if r := n.Get("a"); !is(runs.Active)(r) {
		t.Errorf("answered: %+v", r)
	}
	if err := o.End(t.Context(), runs.Done, "", nil); err != nil {
		t.Fatal(err)
	}
	ended := n.Get("a")
	if !is(runs.Done)(ended) {
		t.Fatalf("ended: %+v", ended)
	}
	next, _, err := n.Claim(t.Context(), run("a", "y"), ended)
	if err != nil || next == nil {
		t.Fatal(err)
	}
	n.Hear("a", &broker.Notice{About: runs.FactPrefix + "a", Fact: true}) // of before
	tell(t, n.Table, ended)
	if r := n.Get("a"); !is(runs.Asking)(r) {
		t.Errorf("claimed again: %+v", r)
	}
	if err := next.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := n.Get("a"); !is(runs.Done)(r) || r.Ask != "x" {
		t.Errorf("released: %+v", r)
	}
}
