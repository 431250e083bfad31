package redisadapter

import (
	"errors"
	"fmt"
)

// watch compares what the tail has with what the primary has.
type watch struct {
	failed int      // beats, one after the other
	then   progress // of the tail, at the last beat
	last   point    // what the primary had then
}

var (
	errBehind  = errors.New("the primary is another one, or lost what it had")
	errAnother = errors.New("the log in Redis is another one, or has lost its values")
	errSilent  = errors.New("the server that is read from does not have what the primary has")
	errNoBeat  = errors.New("the primary is out of reach")
)

// judge returns why the tail should connect anew and compare, nil if it need
// not. The tail was at now when the beat was sent.
func (w *watch) judge(b *beat, err error, now progress) error {
	if err != nil {
		if w.failed++; w.failed > 1 {
			return fmt.Errorf("%w: %w", errNoBeat, err)
		}
		return nil
	}
	// It has waited in vain for what the primary had before.
	silent := w.then.ready && w.last.id.After(now.at.id) && now.at == w.then.at && now.idle > w.then.idle
	w.failed, w.then, w.last = 0, now, b.last
	switch {
	case !now.ready:
	case b.of != now.of:
		return errAnother
	case now.at.id.After(b.last.id), now.at.id == b.last.id && now.at != b.last:
		return errBehind
	case silent:
		return errSilent
	}
	return nil
}
