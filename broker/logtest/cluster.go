package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// What a log does with the numbers of readers that nodes report to each other.
var clusterTests = map[string]func(*testing.T, Harness){
	"each report changes only the counts that it names":          testReadersStay,
	"counts come back with a node, and a report may be repeated": testReadersComeBack,
	"counts come back with a follower":                           testReadersFollow,
	"after Close nothing is reported":                            testReadersClosed,
}

// node is one of the nodes that share a log.
type node struct {
	broker.Log
	broker.Cluster
	follower *follower
}

// join opens a log as two nodes, and follows both.
func join(t *testing.T, h Harness) (a, b *node) {
	t.Helper()
	first := open(t, h)
	second := h.Join(t, first)
	t.Cleanup(func() { _ = second.Close() })
	a = &node{Log: first, Cluster: first.(broker.Cluster), follower: follow(t, first)}
	b = &node{Log: second, Cluster: second.(broker.Cluster), follower: follow(t, second)}
	if a.Node() == b.Node() {
		t.Fatalf("two nodes are called %q", a.Node())
	}
	return a, b
}

// await waits until ok returns "". It fails with what ok returned last.
func await(t *testing.T, what string, ok func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		got := ok()
		if got == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s: %s", patience, what, got)
		}
	}
}

var reported = []string{"a", "b", "c", "d"}

// awaitReaders waits until n knows that the other nodes have so many readers of a,
// b, c and d.
func (n *node) awaitReaders(t *testing.T, what string, want ...int) {
	t.Helper()
	await(t, what, func() string {
		got, err := n.Readers(t.Context(), reported)
		switch {
		case errors.Is(err, broker.ErrUnavailable): // the members are not known yet
			return err.Error()
		case err != nil:
			t.Fatal(err)
		case !slices.Equal(got, want):
			return fmt.Sprintf("the readers of %v are %v, not %v", reported, got, want)
		}
		return ""
	})
}

func (n *node) report(t *testing.T, readers map[string]int) {
	t.Helper()
	if err := n.Report(t.Context(), readers); err != nil {
		t.Fatal(err)
	}
}

// reportInVain reports while n is cut off, which must fail.
func (n *node) reportInVain(t *testing.T, readers map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Report(ctx, readers); err == nil {
		t.Fatalf("a node that is cut off has shared %v", readers)
	}
}

// repeat reports until it succeeds.
func (n *node) repeat(t *testing.T, readers map[string]int) {
	t.Helper()
	await(t, "a report to succeed", func() string {
		if err := n.Report(t.Context(), readers); err != nil {
			return err.Error()
		}
		return ""
	})
}

func testReadersStay(t *testing.T, h Harness) {
	a, b := join(t, h)
	a.report(t, map[string]int{"a": 2, "b": 1})
	b.awaitReaders(t, "the first report", 2, 1, 0, 0)
	a.report(t, map[string]int{"c": 3})
	b.awaitReaders(t, "a report of another channel", 2, 1, 3, 0)
	a.report(t, map[string]int{"b": 0, "c": 4})
	b.awaitReaders(t, "a report of some of them", 2, 0, 4, 0)
	a.report(t, nil)
	many := map[string]int{"b": 5}
	for i := range 2500 {
		many[fmt.Sprint("many ", i)] = 1
	}
	a.report(t, many)
	b.awaitReaders(t, "a large report", 2, 5, 4, 0)
	for name := range many {
		many[name] = 0
	}
	a.report(t, many)
	b.awaitReaders(t, "all of that to be gone", 2, 0, 4, 0)

	// A node does not count its own readers.
	b.report(t, map[string]int{"a": 7, "d": 1})
	b.awaitReaders(t, "its own report", 2, 0, 4, 0)
	a.awaitReaders(t, "the report of the other node", 7, 0, 0, 1)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Report(ctx, map[string]int{"d": 1}); err == nil {
		t.Error("Report succeeds with a context that has ended")
	}
	a.report(t, map[string]int{"d": 2})
	b.awaitReaders(t, "a report after one that failed", 2, 0, 4, 2)
}

func testReadersComeBack(t *testing.T, h Harness) {
	a, b := join(t, h)
	a.report(t, map[string]int{"a": 2, "b": 1, "c": 3})
	b.awaitReaders(t, "the first report", 2, 1, 3, 0)

	// It is cut off for a moment, and stays a member.
	heal := h.Cut(t, a.Log)
	a.reportInVain(t, map[string]int{"b": 4})
	heal()
	a.repeat(t, map[string]int{"b": 4})
	b.awaitReaders(t, "what was reported again", 2, 4, 3, 0)

	// It is cut off until it is no member any more.
	heal = h.Cut(t, a.Log)
	a.reportInVain(t, map[string]int{"b": 5, "c": 0, "d": 1})
	b.awaitReaders(t, "a node that is away to count no more", 0, 0, 0, 0)
	heal()
	await(t, "the node to come back", func() string {
		got, err := b.Readers(t.Context(), []string{"a"})
		if err == nil && got[0] == 2 { // which was not reported again
			return ""
		}
		return fmt.Sprintf("the readers of a are %v, %v", got, err)
	})
	a.repeat(t, map[string]int{"b": 6, "c": 0, "d": 1}) // b has changed since
	b.awaitReaders(t, "what was reported again", 2, 6, 0, 1)
}

func testReadersFollow(t *testing.T, h Harness) {
	a, b := join(t, h)
	a.report(t, map[string]int{"a": 2, "b": 1})
	b.awaitReaders(t, "the report", 2, 1, 0, 0)
	_ = a.follower.end()
	a.follower = follow(t, a.Log)
	b.awaitReaders(t, "the report", 2, 1, 0, 0)
	a.report(t, map[string]int{"c": 1})
	b.awaitReaders(t, "another report", 2, 1, 1, 0)
}

func testReadersClosed(t *testing.T, h Harness) {
	a, b := join(t, h)
	a.report(t, map[string]int{"a": 2})
	b.awaitReaders(t, "the report", 2, 0, 0, 0)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Report(t.Context(), map[string]int{"a": 1}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Report: %v, want ErrClosed", err)
	}
	if _, err := a.Readers(t.Context(), reported); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Readers: %v, want ErrClosed", err)
	}
	b.awaitReaders(t, "a node that was closed to count no more", 0, 0, 0, 0)
}
