package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"time"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// ErrContended is the error of an Update that others were faster than, each
// time that it was tried.
var ErrContended = errkind.New("contended", "", "too many others write the value at the same time")

const (
	// updateTries is how often an Update is computed.
	updateTries = 64
	// updatePatience is the first of them after which it waits a little.
	updatePatience = 4
	// updatePause bounds what it waits.
	updatePause = 50 * time.Millisecond
)

// turns let one Update of a channel go at a time on this node, as far as the
// channels do not share one: those who would else only be in each other's way.
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

// take waits for the turn of channel.
func (t *turns) acquire(ctx context.Context, name string) (release func(), err error) {
	busy := t.busy[maphash.String(t.seed, name)%uint64(len(t.busy))]
	select {
	case busy <- struct{}{}:
		return func() { <-busy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Update says what an Update is about.
type Update struct {
	Channel string
	// Session, if not nil, binds the value to a session, or to none. Else it
	// stays bound as it is.
	Session *string
	// Key makes the update safe to try again. It belongs to Asked, which must
	// then say all that the caller asked for.
	Key   Key
	Asked []byte
	// Answer keeps the value for the answer to a second try; see StateOp.
	Answer bool
}

// Update sets the value of a channel to what compute makes of the one before,
// which may have none, and computes it again if somebody else was faster: no
// write of others is lost to it. compute returns nil to remove the value; with
// an error the Update ends, and that is its error.
//
// The Result's State is what the channel has by it. A removal where there is
// nothing is Unchanged.
func (b *Broker) Update(ctx context.Context, u Update, compute func(State) ([]byte, error)) (Result, error) {
	release, err := b.turns.acquire(ctx, u.Channel)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if u.Key != (Key{}) {
		// Whether it was done already, before it is computed of what it made.
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
	return Op{Kind: KindState, Channel: u.Channel, State: s, Key: u.Key}
}

// pause waits a random time, a longer one each time that it is needed.
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
