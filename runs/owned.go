package runs

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Owned is a run that this node records. Whoever claimed it has to call Release or End,
// once, and calls nothing afterwards. Other methods than Stop and Done are not safe for
// concurrent use.
type Owned struct {
	table  *Table
	run    Run
	before *Run // in whose place it is; nil for none
	purged bool // of what before has left

	stopped chan struct{} // closed when the run has to end
	once    sync.Once
	reason  string // why, once stopped is closed
	state   State  // Stopped or Broken, once stopped is closed
	ended   chan struct{}

	lost    atomic.Bool // it is another's by now, or nobody's
	over    atomic.Bool // Conclude was called
	leaving bool        // its last change is this node's own; guarded by Table.mu
}

// claimPatience is how long Claim waits to hear of a run that came first.
const claimPatience = 100 * time.Millisecond

// Claim begins a run on a channel, in the place of was, which has ended, or of none if was
// is nil. If another run came first, that is returned, and no Owned; or neither if that
// has gone again, or nothing is heard of it yet.
func (t *Table) Claim(ctx context.Context, r Run, was *Run) (*Owned, *Run, error) {
	r.ID, r.Owner, r.State, r.Began = t.log.SessionName(rand.Text()), t.owner, Asking, time.Now()
	o := &Owned{table: t, run: r, stopped: make(chan struct{}), ended: make(chan struct{})}
	var version broker.ID
	if was != nil {
		version = was.version
	}
	t.mu.Lock()
	first := t.owns[r.Channel]
	if first != nil && !first.Lost() {
		t.mu.Unlock()
		return nil, t.await(ctx, r.Channel, version, first.ended), nil // the log need not be asked
	}
	forget, err := t.mayBegin(&r)
	if err == nil {
		t.own[r.ID], t.owns[r.Channel] = o, o
		t.update(r.Channel)
		if forget != nil {
			t.going[forget.ID] = true
			t.update(forget.Channel)
		}
	}
	t.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	if forget != nil {
		if err := t.forget(ctx, forget); err != nil {
			o.forget("")
			return nil, nil, err
		}
	}
	switch err := o.change(ctx, version); {
	case errors.Is(err, broker.ErrStateMismatch):
		o.forget("")
		return nil, t.await(ctx, r.Channel, version, nil), nil
	case err != nil:
		o.forget("")
		return nil, nil, err
	}
	o.before = was
	return o, nil, nil
}

// await waits for a run of a channel with another version, or until ended is closed. It
// returns nil if it does not hear of one.
func (t *Table) await(ctx context.Context, name string, was broker.ID, ended <-chan struct{}) *Run {
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	for {
		r, changed, leave := t.watch(name)
		if r != nil && r.version != was || r == nil && !was.IsZero() {
			leave()
			return r
		}
		over := false
		select {
		case <-changed:
		case <-ended:
			over = true
		case <-ctx.Done():
			over = true
		}
		if leave(); over {
			return nil
		}
	}
}

// change writes the run as it is to the log, over a version.
func (o *Owned) change(ctx context.Context, was broker.ID) error {
	data, until, err := o.run.text()
	if err != nil {
		return err
	}
	version, err := o.table.log.ChangeFact(ctx, FactPrefix+o.run.Channel, data, until, was)
	if err != nil {
		return err
	}
	o.run.version = version
	o.table.wrote(o.run)
	return nil
}

// forget takes the run out of those of this node, and counts how it has ended.
func (o *Owned) forget(as State) {
	o.table.mu.Lock()
	defer o.table.mu.Unlock()
	delete(o.table.own, o.run.ID)
	if o.table.owns[o.run.Channel] == o {
		delete(o.table.owns, o.run.Channel)
	}
	o.table.update(o.run.Channel) // and whether the log still has it unfinished
	if as != "" {
		o.table.counts.Ended[as]++
	}
	close(o.ended)
}

// leave says that what is heard of the run from now on may be this node's own doing.
func (o *Owned) leave() {
	o.table.mu.Lock()
	defer o.table.mu.Unlock()
	o.leaving = true
}

// lose has the run end, because another node has ended it: it must publish nothing more,
// since the channel may have another run. Table.mu is held.
func (o *Owned) lose() {
	if !o.leaving {
		o.lost.Store(true)
		o.stop(Broken, reasonLost)
	}
}

// reasonLost is what readers of a run that was lost are told: it could not be kept.
const reasonLost = "log"

// Lost reports whether the run is known to be another's by now, or nobody's.
func (o *Owned) Lost() bool { return o.lost.Load() }

// Run is the run as it is now.
func (o *Owned) Run() *Run { r := o.run; return &r }

// Answered says that the application answers with an event stream, and what readers get
// last if this node does not live to its end. What an earlier run has left on the channel
// is gone then.
func (o *Owned) Answered(ctx context.Context, status int, header map[string][]string, cut []Mark) error {
	results, err := o.purge(ctx)
	if err != nil {
		return err
	}
	o.run.State, o.run.Status, o.run.Header, o.run.Cut, o.run.From = Active, status, header, cut, results[0].ID.String()
	return lost(o.change(ctx, o.run.version))
}

// purge removes what the channel keeps. It opens a closed channel.
func (o *Owned) purge(ctx context.Context) ([]broker.Result, error) {
	results, err := o.table.log.Publish(ctx, []broker.Op{{Kind: broker.KindPurge, Channel: o.run.Channel}})
	o.purged = true
	if err == nil {
		err = results[0].Err
	}
	return results, err
}

// Renew makes sure that the run is still this node's, in the log: another node may have
// taken this one for dead meanwhile. The error is ErrLost if it is not.
func (o *Owned) Renew(ctx context.Context) error {
	if o.table.log.Node() == "" {
		return nil
	}
	return lost(o.change(ctx, o.run.version))
}

// Release says that there is nothing to record: the next request asks the application. A
// run that was kept on the channel is kept still.
func (o *Owned) Release(ctx context.Context) error {
	defer o.forget("")
	o.leave()
	var data []byte
	var until time.Time
	if o.before != nil && !o.purged {
		var err error
		if data, until, err = o.before.text(); err != nil {
			return err
		}
	}
	version, err := o.table.log.ChangeFact(ctx, FactPrefix+o.run.Channel, data, until, o.run.version)
	switch {
	case err != nil:
		return ignore(err, broker.ErrStateMismatch)
	case data == nil:
		o.table.removed(o.run)
	default:
		before := *o.before
		before.version = version
		o.table.wrote(before)
	}
	return nil
}

// Conclude says that a reader may know from now on that the run is over, though the log does
// not have its end yet.
func (o *Owned) Conclude() { o.over.Store(true) }

// Concludes reports whether a reader may know that a run is over which this node records, and
// which is about to be ended.
func (t *Table) Concludes(r *Run) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.own[r.ID]
	return o != nil && o.over.Load()
}

// End ends the run: its readers get marks, and the channel is closed. Where the log does not
// take that, which is the error, Table.Run does it when the log is back.
func (o *Owned) End(ctx context.Context, state State, reason string, marks []Mark) error {
	defer o.forget(state)
	o.leave()
	if o.Lost() {
		return ErrLost
	}
	err := o.table.finish(ctx, o.run.Channel, marks)
	if err == nil {
		o.run.State, o.run.Reason, o.run.Ended = state, reason, time.Now()
		err = lost(o.change(ctx, o.run.version))
	}
	if err != nil && !errors.Is(err, ErrLost) {
		o.table.endLater(o.run.ID, end{state, reason, marks})
	}
	return err
}

func lost(err error) error {
	if errors.Is(err, broker.ErrStateMismatch) {
		return ErrLost
	}
	return err
}

// Done is closed when the run has to be ended, as Why says.
func (o *Owned) Done() <-chan struct{} { return o.stopped }

// Why is how the run has to be ended, once Done is closed.
func (o *Owned) Why() (State, string) { return o.state, o.reason }

func (o *Owned) stop(state State, reason string) {
	o.once.Do(func() {
		o.state, o.reason = state, reason
		close(o.stopped)
	})
}

// Stop has the owner of a run, which is this node, end it, and waits for that or until ctx
// ends. The error is ErrNoRun if this node records no such run.
func (t *Table) Stop(ctx context.Context, id, reason string) error {
	t.mu.Lock()
	o := t.own[id]
	t.mu.Unlock()
	if o == nil {
		return ErrNoRun
	}
	o.stop(Stopped, reason)
	select {
	case <-o.ended:
		return nil
	case <-ctx.Done():
		return broker.ErrUncertain
	}
}
