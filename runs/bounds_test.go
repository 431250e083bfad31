package runs_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// removals is a log that says which facts are removed.
type removals struct {
	*broker.Broker
	names []string
}

func (l *removals) ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was broker.ID) (broker.ID, error) {
	if data == nil {
		l.names = append(l.names, name)
	}
	return l.Broker.ChangeFact(ctx, name, data, until, was)
}

// A caller whose share is used up loses the run that ended first, not the one that began
// first, which may have ended just now; and nobody else's.
func TestTheRunThatEndedFirstIsForgotten(t *testing.T) {
	const share = runs.MaxRuns / 10
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	log := &removals{Broker: b}
	table := runs.New(log, func() int { return 10 }, slog.New(slog.DiscardHandler))
	listen(b, table)
	until(t, table, "new", func(*runs.Run) bool { return table.Loaded() == nil })
	table.Reset()
	began := time.Now().Add(-time.Hour)
	known := func(i int, whose string, ended time.Duration) {
		tell(t, table, &runs.Run{
			ID: fmt.Sprint(i), Channel: fmt.Sprint(i), Share: whose, State: runs.Done,
			Began: began.Add(time.Duration(i) * time.Second), Ended: began.Add(ended), Keep: 2 * time.Hour,
		})
	}
	known(share, "others", time.Second)
	for i := range share {
		known(i, "mine", 30*time.Minute-time.Duration(i)*time.Second)
	}
	table.Settled()
	r := run("new", "x")
	r.Share = "mine"
	o, _, err := table.Claim(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(log.names); got != fmt.Sprintf("[%s%d]", runs.FactPrefix, share-1) {
		t.Errorf("forgotten: %s", got)
	}
	if err := o.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
