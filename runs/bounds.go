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
		forget, full := t.oldest(max(1, MaxRuns*t.share()/100), func(other *Run) bool { return other.Share == r.Share && other.Channel != r.Channel })
		switch {
		case full && forget == nil:
			return nil, ErrShareOfRuns
		case full:
			return forget, nil
		}
	}
	forget, full := t.oldest(MaxRuns, func(other *Run) bool { return other.Channel != r.Channel })
	switch {
	case full && forget == nil:
		return nil, ErrTooManyRuns
	case full:
		return forget, nil
	}
	return nil, nil
}

// oldest reports whether at least most runs are counted, and finds the one of them that
// ended first. Claims that the log does not have yet are counted, or many at once would
// all find the same room; and a run that is being forgotten for one of them is not.
func (t *Table) oldest(most int, counted func(*Run) bool) (oldest *Run, full bool) {
	n := 0
	for _, r := range t.runs {
		if t.going[r.ID] || !counted(r) {
			continue
		}
		n++
		if r.State.Ended() && (oldest == nil || r.Ended.Before(oldest.Ended)) {
			oldest = r
		}
	}
	for name, o := range t.owns {
		if r := t.runs[name]; (r == nil || t.going[r.ID] || !counted(r)) && counted(&o.run) {
			n++
		}
	}
	return oldest, n >= most
}

// forget removes a run that has ended, and its events. It is among the going.
func (t *Table) forget(ctx context.Context, r *Run) error {
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.going, r.ID)
	}()
	if _, err := t.log.ChangeFact(ctx, FactPrefix+r.Channel, nil, time.Time{}, r.version); err != nil {
		return ignore(err, broker.ErrStateMismatch)
	}
	t.removed(*r)
	_, err := t.log.Publish(ctx, []broker.Op{{Kind: broker.KindPurge, Channel: r.Channel}})
	return err
}
