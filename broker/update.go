package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"time"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// ErrContended is the error of an Update that was tried many times, and each time
// another write came first.
var ErrContended = errkind.New("contended", "", "too many others write the value at the same time")

const (
	// updateTries is how often an Update is tried.
	updateTries = 64
	// updatePatience is how many tries come without a pause between them.
	updatePatience = 4
	// updatePause bounds the pause before a try.
	updatePause = 50 * time.Millisecond
)

// turns let one Update of a channel run at a time on this node: several would only
// make each other fail. Channels with the same hash share a turn.
type turns struct {
	seed maphash.Seed
	busy [64]chan struct{}
}

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.busy {
		t.busy[i] = make(chan struct{}, 1)
	}
	return t
}

// acquire waits for the turn of a channel.
func (t *turns) acquire(ctx context.Context, name string) (release func(), err error) {
	busy := t.busy[maphash.String(t.seed, name)%uint64(len(t.busy))]
	select {
	case busy <- struct{}{}:
		return func() { <-busy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Update says which value Broker.Update updates, and how.
type Update struct {
	Channel string
	// Session, if not nil, binds the value to one more session, or with "" to none. If
	// nil, the value stays bound as it is.
	Session *string
	// Key makes the update safe to try again. It belongs to Asked, which must be
	// all that the caller asked for.
	Key   Key
	Asked []byte
	// Answer: see StateOp.
	Answer bool
	// Owner: see Op.
	Owner Owner
}

// Update sets the value of a channel to what compute makes of the current one, the
// zero State if there is none. If another write comes first, it calls compute again,
// so that no write is lost; the error is ErrContended if that happens too often.
// compute returns nil to remove the value; its error ends the Update.
//
// The Result's State is the value that was set. To remove what is not there is
// Unchanged.
func (b *Broker) Update(ctx context.Context, u Update, compute func(State) ([]byte, error)) (Result, error) {
	release, err := b.turns.acquire(ctx, u.Channel)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if u.Key != (Key{}) {
		// If it was done already, compute must not be called on its result.
		r, err := b.publishOne(ctx, u.op(State{}, nil, Condition{Kind: IfNever}))
		if err != nil || !errors.Is(r.Err, ErrStateMismatch) {
			return r, errors.Join(err, r.Err)
		}
	}
	old := b.State(u.Channel)
	for try := range updateTries {
		if try >= updatePatience {
			if err := pause(ctx, try-updatePatience); err != nil {
				return Result{}, err
			}
		}
		value, err := compute(old)
		if err != nil {
			return Result{}, err
		}
		if value == nil && old.Value == nil {
			return Result{Unchanged: true, State: &State{}}, nil
		}
		condition := Condition{Kind: IfAbsent}
		if old.Value != nil {
			condition = Condition{Kind: IfVersion, Versions: []ID{old.Version}}
		}
		op := u.op(old, value, condition)
		r, err := b.publishOne(ctx, op)
		switch {
		case err != nil:
			return r, err
		case errors.Is(r.Err, ErrStateMismatch):
			b.stateRetried.Add(1)
			old = *r.State
			continue
		case r.Err != nil:
			return r, r.Err
		}
		if !r.Repeated {
			r.State = &State{Value: op.State.Value, Version: r.ID, Session: op.State.Session}
		}
		return r, nil
	}
	return Result{}, ErrContended
}

func (u *Update) op(old State, value []byte, condition Condition) Op {
	s := &StateOp{Value: value, If: condition, Session: old.Session, Asked: u.Asked, Answer: u.Answer, carried: true}
	if u.Session != nil {
		s.Session, s.carried = *u.Session, false
	}
	s.whole = value == nil
	return Op{Kind: KindState, Channel: u.Channel, State: s, Key: u.Key, Owner: u.Owner}
}

// pause waits a random time, which grows with n.
func pause(ctx context.Context, n int) error {
	longest := min(time.Millisecond<<min(n, 10), updatePause)
	timer := time.NewTimer(rand.N(longest) + 1) //nolint:gosec // it spreads load and guards nothing
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
