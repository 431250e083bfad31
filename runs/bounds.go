package runs

import (
	"context"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// mayBegin reports why a caller may not begin a run, or which one has to be forgotten for
// it: the caller's own, where the caller's share is used up. Table.mu is held.
func (t *Table) mayBegin(r *Run) (forget *Run, err error) {
	switch {
	case t.ending != "":
		return nil, broker.ErrClosed
	case !t.settled:
		return nil, broker.ErrLoading
	}
	if r.Share != "" {
		forget, full := t.oldest(r.Share, max(1, MaxRuns*t.share()/100), r.Channel)
		switch {
		case full && forget == nil:
			return nil, ErrShareOfRuns
		case full:
			return forget, nil
		}
	}
	forget, full := t.oldest("", MaxRuns, r.Channel)
	if full && forget == nil {
		return nil, ErrTooManyRuns
	}
	return forget, nil
}

// forget removes a run that has ended, and its events. It is among the going.
func (t *Table) forget(ctx context.Context, r *Run) error {
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.going, r.ID)
		t.update(r.Channel)
	}()
	if _, err := t.log.ChangeFact(ctx, FactPrefix+r.Channel, nil, time.Time{}, r.version); err != nil {
		return ignore(err, broker.ErrStateMismatch)
	}
	t.removed(*r)
	_, err := t.log.Publish(ctx, []broker.Op{{Kind: broker.KindPurge, Channel: r.Channel}})
	return err
}
