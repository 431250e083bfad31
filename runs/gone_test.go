package runs_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// fails is a log that can be made to fail.
type fails struct {
	*broker.Broker
	on atomic.Bool
}

var errDown = errors.New("the log is down")

func (f *fails) ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was broker.ID) (broker.ID, error) {
	if f.on.Load() {
		return broker.ID{}, errDown
	}
	return f.Broker.ChangeFact(ctx, name, data, until, was)
}

func (f *fails) Publish(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if f.on.Load() {
		return nil, errDown
	}
	return f.Broker.Publish(ctx, ops)
}

// active is a run of a table whose application has answered.
func active(t *testing.T, table *runs.Table, was *runs.Run) *runs.Owned {
	t.Helper()
	o, other, err := table.Claim(t.Context(), run("a", "x"), was)
	if err != nil || o == nil {
		t.Fatal(other, err)
	}
	if err := o.Answered(t.Context(), 200, nil, cut); err != nil {
		t.Fatal(err)
	}
	return o
}

// Its node lives, but has given it up: nobody else would end it.
func TestARunThatCouldNotBeEndedIsBrokenLater(t *testing.T) {
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	log := &fails{Broker: b}
	table := runs.New(log, func() int { return 10 }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { table.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	listen(b, table)
	until(t, table, "a", func(*runs.Run) bool { return table.Loaded() == nil })
	o := active(t, table, nil)
	until(t, table, "a", is(runs.Active))
	log.on.Store(true)
	if err := o.End(t.Context(), runs.Done, "", nil); !errors.Is(err, errDown) {
		t.Fatalf("it ends: %v", err)
	}
	log.on.Store(false)
	until(t, table, "a", is(runs.Broken))
	if got := events(t, node{b, table}, "a"); got != "broken:{}" {
		t.Errorf("kept: %s", got)
	}
}

// Who learns late that an owner is gone must not end the run that came after.
func TestARunIsBrokenByOneNodeOnly(t *testing.T) {
	n := newNode(t)
	first := active(t, n.Table, nil)
	was := until(t, n.Table, "a", is(runs.Active))
	other := runs.New(n.Broker, func() int { return 10 }, slog.New(slog.DiscardHandler))
	if err := other.Bury(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if state, _ := first.Why(); state != runs.Broken || !first.Lost() {
		t.Errorf("its owner is told %s, lost: %t", state, first.Lost())
	}
	second := active(t, n.Table, until(t, n.Table, "a", is(runs.Broken)))
	publish(t, n, "a", "new")
	if err := other.Bury(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	// Its own owner must not, either.
	if err := first.End(t.Context(), runs.Done, "", []runs.Mark{{Data: "late"}}); !errors.Is(err, runs.ErrLost) {
		t.Errorf("the old owner ends it: %v", err)
	}
	publish(t, n, "a", "more")
	if err := second.End(t.Context(), runs.Done, "", nil); err != nil {
		t.Fatal(err)
	}
	if got := events(t, n, "a"); got != ":new :more" {
		t.Errorf("kept: %s", got)
	}
	if second.Lost() {
		t.Error("the run that came after is lost")
	}
}
