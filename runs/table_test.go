package runs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/sse"
)

// node is a broker with a table.
type node struct {
	*broker.Broker
	*runs.Table
}

func open(t *testing.T, b *broker.Broker) node {
	t.Helper()
	return node{b, start(t, b)}
}

func start(t *testing.T, b *broker.Broker) *runs.Table {
	table := runs.New(b, func() int { return 10 }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { table.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return table
}

// listen passes the facts of a broker on to tables.
func listen(b *broker.Broker, tables ...*runs.Table) {
	b.Listen(func(n broker.Notice) {
		for _, t := range tables {
			switch name, ours := strings.CutPrefix(n.About, runs.FactPrefix); {
			case n.Reset:
				t.Reset()
			case n.Settled:
				t.Settled()
			case n.Fact && ours:
				t.Hear(name, &n)
			}
		}
	})
}

func newNode(t *testing.T) node {
	t.Helper()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	n := open(t, b)
	listen(b, n.Table)
	until(t, n.Table, "a", func(*runs.Run) bool { return n.Table.Loaded() == nil })
	return n
}

func run(channel, ask string) runs.Run {
	return runs.Run{Channel: channel, Ask: ask, Longest: time.Minute, Keep: time.Hour}
}

var cut = []runs.Mark{{Type: "broken", Data: "{}"}}

// until waits for the run of a channel to be as it has to.
func until(t *testing.T, table *runs.Table, channel string, ok func(*runs.Run) bool) *runs.Run {
	t.Helper()
	var r *runs.Run
	eventually(t, fmt.Sprintf("the run of %s", channel), func() bool {
		r = table.Get(channel)
		return ok(r)
	})
	return r
}

func is(state runs.State) func(*runs.Run) bool {
	return func(r *runs.Run) bool { return r != nil && r.State == state }
}

func publish(t *testing.T, n node, channel, data string) {
	t.Helper()
	results, err := n.Publish(t.Context(), []broker.Op{{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte(data)}}})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
}

// events are what a channel keeps.
func events(t *testing.T, n node, channel string) string {
	t.Helper()
	s, err := n.Subscribe(broker.SubscribeOptions{Channels: []string{channel}, Start: broker.Start{Earliest: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var list []string
	batch := broker.Batch{Decode: true}
	for {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
		for _, d := range batch.Deliveries {
			list = append(list, d.Event.Type+":"+string(d.Event.Data))
		}
		if !batch.More {
			return strings.Join(list, " ")
		}
	}
}

func TestOneOfManyClaimsBeginsARun(t *testing.T) {
	n := newNode(t)
	var work sync.WaitGroup
	won := make(chan *runs.Owned, 32)
	for range 32 {
		work.Go(func() {
			o, other, err := n.Claim(t.Context(), run("a", "x"), nil)
			switch {
			case err != nil:
				t.Error(err)
			case o != nil:
				won <- o
			case other == nil || other.Ask != "x":
				t.Errorf("the other one is %+v", other)
			}
		})
	}
	work.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d have begun it", len(won))
	}
	o := <-won
	if err := o.Answered(t.Context(), 200, map[string][]string{"X": {"y"}}, cut); err != nil {
		t.Fatal(err)
	}
	publish(t, n, "a", "1")
	if err := o.End(t.Context(), runs.Done, "", nil); err != nil {
		t.Fatal(err)
	}
	r := until(t, n.Table, "a", is(runs.Done))
	if r.Status != 200 || fmt.Sprint(r.Header) != "map[X:[y]]" || events(t, n, "a") != ":1" {
		t.Errorf("%+v, %s", r, events(t, n, "a"))
	}
	if c := n.Counts(); c.Going != 0 || c.Kept != 1 || c.Ended[runs.Done] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestARunComesInThePlaceOfOneThatHasEnded(t *testing.T) {
	n := newNode(t)
	first, _, err := n.Claim(t.Context(), run("a", "x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Answered(t.Context(), 200, nil, cut); err != nil {
		t.Fatal(err)
	}
	publish(t, n, "a", "old")
	if err := first.End(t.Context(), runs.Stopped, "enough", []runs.Mark{{Type: "stopped", Data: "1"}, {Data: "2"}}); err != nil {
		t.Fatal(err)
	}
	r := until(t, n.Table, "a", is(runs.Stopped))
	if got := events(t, n, "a"); got != ":old stopped:1 :2" {
		t.Errorf("kept: %s", got)
	}
	// Another answer that is none leaves it as it was.
	none, _, err := n.Claim(t.Context(), run("a", "y"), r)
	if err != nil {
		t.Fatal(err)
	}
	until(t, n.Table, "a", is(runs.Asking))
	if err := none.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = until(t, n.Table, "a", is(runs.Stopped))
	if got := events(t, n, "a"); got != ":old stopped:1 :2" || r.Ask != "x" {
		t.Errorf("kept: %s, of %+v", got, r)
	}
	second, other, err := n.Claim(t.Context(), run("a", "y"), r)
	if err != nil || second == nil {
		t.Fatal(other, err)
	}
	if third, other, err := n.Claim(t.Context(), run("a", "z"), r); third != nil || err != nil || other == nil || other.Ask != "y" {
		t.Errorf("%v, %+v, %v", third, other, err)
	}
	if err := second.Answered(t.Context(), 200, nil, cut); err != nil {
		t.Fatal(err)
	}
	publish(t, n, "a", "new")
	if got := events(t, n, "a"); got != ":new" {
		t.Errorf("kept: %s", got)
	}
	if err := second.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, n.Table, "a", func(r *runs.Run) bool { return r == nil })
}

func TestARunWhoseOwnerIsGoneIsBroken(t *testing.T) {
	n := newNode(t)
	answered, _, err := n.Claim(t.Context(), run("a", "x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := answered.Answered(t.Context(), 200, nil, cut); err != nil {
		t.Fatal(err)
	}
	publish(t, n, "a", "1")
	if _, _, err := n.Claim(t.Context(), run("b", "x"), nil); err != nil {
		t.Fatal(err)
	}
	// The log is opened again, by two at the same time.
	known := []*runs.Run{until(t, n.Table, "a", is(runs.Active)), until(t, n.Table, "b", is(runs.Asking))}
	for _, table := range []*runs.Table{start(t, n.Broker), start(t, n.Broker)} {
		for _, r := range known {
			tell(t, table, r)
		}
		table.Settled()
	}
	r := until(t, n.Table, "a", is(runs.Broken))
	if r.Reason == "" || events(t, n, "a") != ":1 broken:{}" {
		t.Errorf("%+v, %s", r, events(t, n, "a"))
	}
	until(t, n.Table, "b", func(r *runs.Run) bool { return r == nil })
	if err := answered.End(t.Context(), runs.Done, "", nil); !errors.Is(err, runs.ErrLost) {
		t.Errorf("the old owner ends it: %v", err)
	}
}

// Before the log has told all, nobody can say that there is no run.
func TestRunsAreNotKnownBeforeTheLogIsRead(t *testing.T) {
	n := newNode(t)
	early := start(t, n.Broker)
	if err := early.Loaded(); !errors.Is(err, broker.ErrLoading) {
		t.Errorf("it is loaded: %v", err)
	}
	if o, _, err := early.Claim(t.Context(), run("a", "x"), nil); o != nil || !errors.Is(err, broker.ErrLoading) {
		t.Errorf("a run begins: %v", err)
	}
	early.Settled()
	if err := early.Loaded(); err != nil {
		t.Error(err)
	}
}

func TestARunIsStopped(t *testing.T) {
	n := newNode(t)
	o, _, err := n.Claim(t.Context(), run("a", "x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context(), "other", ""); !errors.Is(err, runs.ErrNoRun) {
		t.Errorf("another one is stopped: %v", err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop(context.Background(), o.Run().ID, "by hand") }()
	<-o.Done()
	if state, reason := o.Why(); state != runs.Stopped || reason != "by hand" {
		t.Errorf("%s, %s", state, reason)
	}
	if err := o.End(t.Context(), runs.Stopped, "by hand", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n.Exit(t.Context(), "exit")
	if _, _, err := n.Claim(t.Context(), run("b", "x"), nil); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("one begins after the exit: %v", err)
	}
}

// tell tells a table of a run as the log would.
func tell(t *testing.T, table *runs.Table, r *runs.Run) {
	t.Helper()
	n, err := runs.NoticeOf(r)
	if err != nil {
		t.Fatal(err)
	}
	table.Hear(r.Channel, n)
}
