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
	on, publishes atomic.Bool // publishes: but it publishes
}

var errDown = errors.New("the log is down")

func (f *fails) ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was broker.ID) (broker.ID, error) {
	if f.on.Load() {
		return broker.ID{}, errDown
	}
	return f.Broker.ChangeFact(ctx, name, data, until, was)
}

func (f *fails) Publish(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if f.on.Load() && !f.publishes.Load() {
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

// What the log does not take is said when it is back, as it was: that the log was away breaks
// no answer that it has as a whole.
func TestARunThatCouldNotBeEndedIsEndedLater(t *testing.T) {
	stopped := []runs.Mark{{Type: "stopped", Data: "{}"}}
	for name, tt := range map[string]struct {
		state     runs.State
		marks     []runs.Mark
		publishes bool
		kept      string
	}{
		"done":                        {state: runs.Done},
		"stopped":                     {state: runs.Stopped, marks: stopped, kept: "stopped:{}"},
		"stopped, and readers know":   {state: runs.Stopped, marks: stopped, publishes: true, kept: "stopped:{}"},
		"broken, with its own reason": {state: runs.Broken, marks: []runs.Mark{{Type: "largest"}}, kept: "largest:"},
	} {
		t.Run(name, func(t *testing.T) {
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
			log.publishes.Store(tt.publishes)
			log.on.Store(true)
			if err := o.End(t.Context(), tt.state, "why", tt.marks); !errors.Is(err, errDown) {
				t.Fatalf("it ends: %v", err)
			}
			log.on.Store(false)
			r := until(t, table, "a", func(r *runs.Run) bool { return r.State.Ended() })
			if got := events(t, node{b, table}, "a"); got != tt.kept || r.State != tt.state || r.Reason != "why" {
				t.Errorf("%s %q, kept: %s", r.State, r.Reason, got)
			}
			if c, _ := b.Channel("a"); c.Closed.IsZero() {
				t.Error("its channel is open")
			}
		})
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
