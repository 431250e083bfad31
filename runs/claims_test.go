package runs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// slow is a log whose changes wait until they are let through, or their context ends.
type slow struct {
	*broker.Broker
	let chan struct{} // closed for all
}

func (l *slow) ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was broker.ID) (broker.ID, error) {
	select {
	case <-l.let:
	case <-ctx.Done():
		return broker.ID{}, ctx.Err()
	}
	return l.Broker.ChangeFact(ctx, name, data, until, was)
}

// slowTable is a table on a slow log, one percent of which is one caller's.
func slowTable(t *testing.T) (*slow, *runs.Table) {
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
	log := &slow{Broker: b, let: make(chan struct{})}
	table := runs.New(log, func() int { return 1 }, slog.New(slog.DiscardHandler))
	listen(b, table)
	until(t, table, "new", func(*runs.Run) bool { return table.Loaded() == nil })
	return log, table
}

const shareOfSlow = runs.MaxRuns / 100

// A caller who asks for more answers at once than its share has, before any of them is known
// to the log, gets its share, and others get theirs.
func TestClaimsThatTheLogDoesNotHaveYetAreCounted(t *testing.T) {
	log, table := slowTable(t)
	var work sync.WaitGroup
	var mu sync.Mutex
	var own []*runs.Owned
	refused := 0
	claim := func(channel, whose string) error {
		r := run(channel, "x")
		r.Share = whose
		o, _, err := table.Claim(t.Context(), r, nil)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(err, runs.ErrShareOfRuns):
			refused++
		case err == nil:
			own = append(own, o)
		}
		return err
	}
	const all = shareOfSlow + shareOfSlow/2
	for i := range all {
		work.Go(func() { _ = claim(fmt.Sprint("mine-", i), "mine") })
	}
	eventually(t, "all to be decided on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return refused+table.Counts().Going >= all
	})
	close(log.let)
	work.Wait()
	if len(own) != shareOfSlow || refused != shareOfSlow/2 {
		t.Errorf("%d claims are taken, %d are refused", len(own), refused)
	}
	if err := claim("theirs", "theirs"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	for _, o := range own {
		if err := o.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := claim("mine-0", "mine"); err != nil {
		t.Errorf("after all of them: %v", err)
	}
}

// Each claim of a caller whose share is used up has another of its runs forgotten, also where
// many come at once.
func TestClaimsAtOnceForgetARunEach(t *testing.T) {
	log, table := slowTable(t)
	close(log.let)
	owner := func(channel string) *runs.Owned {
		r := run(channel, "x")
		r.Share = "mine"
		o, other, err := table.Claim(t.Context(), r, nil)
		if err != nil || o == nil {
			t.Errorf("%s: %v, %v", channel, other, err)
			return nil
		}
		return o
	}
	end := func(o *runs.Owned) {
		if err := o.Answered(t.Context(), 200, nil, nil); err != nil {
			t.Error(err)
		}
		if err := o.End(t.Context(), runs.Done, "", nil); err != nil {
			t.Error(err)
		}
	}
	for i := range shareOfSlow {
		end(owner(fmt.Sprint(i)))
	}
	if kept := table.Counts().Kept; kept != shareOfSlow {
		t.Fatalf("%d are kept where there is room for %d", kept, shareOfSlow)
	}
	log.let = make(chan struct{})
	var work sync.WaitGroup
	var mu sync.Mutex
	var all []*runs.Owned
	const more = 20
	for i := range more {
		work.Go(func() {
			o := owner(fmt.Sprint("more-", i))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, o)
		})
	}
	eventually(t, "all to have chosen what is to be forgotten", func() bool { return table.Counts().Going >= more })
	close(log.let)
	work.Wait()
	if kept := table.Counts().Kept; kept != shareOfSlow-more {
		t.Errorf("%d are kept besides %d new ones, at most %d may be", kept, more, shareOfSlow)
	}
	for _, o := range all {
		end(o)
	}
}

// A release waits for the log, not whoever has it released; the next claim waits. An exit
// gives up what the log does not take.
func TestNobodyWaitsForARelease(t *testing.T) {
	log, table := slowTable(t)
	close(log.let)
	claim := func() *runs.Owned {
		t.Helper()
		o, _, err := table.Claim(t.Context(), run("a", "x"), nil)
		if err != nil || o == nil {
			t.Fatal(err)
		}
		return o
	}
	o := claim()
	log.let = make(chan struct{})
	failed := make(chan error, 1)
	o.ReleaseSoon(func(err error) { failed <- err })
	if o, _, err := table.Claim(t.Context(), run("a", "x"), nil); o != nil || err != nil {
		t.Errorf("it is claimed before it is released: %v", err)
	}
	close(log.let)
	until(t, table, "a", func(r *runs.Run) bool { return r == nil })

	o = claim()
	log.let = make(chan struct{})
	o.ReleaseSoon(func(err error) { failed <- err })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	table.Exit(ctx, "the server is shutting down")
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("it fails with %v", err)
	}
}

// shared is a broker of several nodes.
type shared struct{ *broker.Broker }

func (shared) Node() string { return "n1" }

// A node that hears nothing, as one that was suspended, learns from the log that its run is
// another's.
func TestARunIsRenewedOnlyWhereItIsTheNodesOwn(t *testing.T) {
	n := deaf(t)
	table := runs.New(shared{n.Broker}, func() int { return 10 }, slog.New(slog.DiscardHandler))
	table.Settled()
	o := active(t, table, nil)
	for range 2 {
		if err := o.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := runs.New(n.Broker, func() int { return 10 }, slog.New(slog.DiscardHandler))
	if err := other.Bury(t.Context(), o.Run()); err != nil {
		t.Fatal(err)
	}
	if err := o.Renew(t.Context()); !errors.Is(err, runs.ErrLost) {
		t.Errorf("renewed: %v", err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	looks, patience := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
