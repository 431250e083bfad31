package runs

import (
	"context"
	"log/slog"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// sweepEach is how often a Table looks for runs whose owner is gone, while there are
// unfinished ones of others.
const sweepEach = 500 * time.Millisecond

// Run ends the runs whose owner is gone, until ctx ends.
func (t *Table) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepEach)
	defer ticker.Stop()
	for {
		var again <-chan time.Time
		if t.sweep(ctx) {
			again = ticker.C
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-t.kick:
		}
	}
}

// sweep ends the runs whose owner is gone, and those that this node has given up but could
// not end in the log. It reports whether there are unfinished runs that it has to look at
// again.
func (t *Table) sweep(ctx context.Context) (again bool) {
	members, known := t.log.Members()
	isGone := t.owners.look(members, known, time.Now())
	var gone []*Run
	t.mu.Lock()
	for _, r := range t.index.strays {
		again = true
		if r.Owner == t.owner || t.log.Node() == "" || isGone(r.Owner) {
			gone = append(gone, r)
		}
	}
	t.mu.Unlock()
	for _, r := range gone {
		if err := t.bury(ctx, r); err != nil && ctx.Err() == nil {
			t.warn(r, err)
		}
	}
	return again
}

// warnEach is how often the log is told that runs could not be ended, however many they are.
const warnEach = 10 * time.Second

func (t *Table) warn(r *Run, err error) {
	if now := time.Now(); now.Sub(t.warned) >= warnEach {
		t.warned = now
		t.logger.Warn("ending a recorded answer that nobody records any more; this and others are tried again",
			slog.String("channel", r.Channel), slog.Any("error", err))
	}
}

// end is how a run has ended.
type end struct {
	state  State
	reason string
	marks  []Mark
}

// endLater keeps how a run of this node has ended, until the log takes it.
func (t *Table) endLater(id string, as end) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unended[id] = as
}

// endOf is how a run has ended that nobody records: as its recording has said on this node,
// or it was cut off.
func (t *Table) endOf(r *Run) end {
	t.mu.Lock()
	defer t.mu.Unlock()
	if as, known := t.unended[r.ID]; known {
		return as
	}
	return end{Broken, "the node that recorded it is gone", r.Cut}
}

// bury ends a run whose owner is gone. Another node may do the same: the first to take it
// over does. The others leave its channel alone, which may have another run by then.
func (t *Table) bury(ctx context.Context, r *Run) error {
	if r.State == Asking {
		_, err := t.log.ChangeFact(ctx, FactPrefix+r.Channel, nil, time.Time{}, r.version)
		return ignore(err, broker.ErrStateMismatch)
	}
	as, dead := t.endOf(r), *r
	dead.Owner = t.owner
	if err := t.rewrite(ctx, &dead); err != nil {
		return ignore(err, broker.ErrStateMismatch)
	}
	if err := t.finish(ctx, r.Channel, as.marks); err != nil {
		return err
	}
	dead.State, dead.Reason, dead.Ended = as.state, as.reason, time.Now()
	return ignore(t.rewrite(ctx, &dead), broker.ErrStateMismatch)
}
