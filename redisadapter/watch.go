package redisadapter

import (
	"errors"
	"fmt"

	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// watch compares what the tail has read with what the primary has.
type watch struct {
	failed int         // beats that have failed in a row
	then   progress    // of the tail, at the last beat
	last   entry.Point // the newest entry of the primary then
}

var (
	errBehind  = errors.New("there is another primary, or it has lost entries")
	errAnother = errors.New("there is another log in Redis, or it has lost its values")
	errSilent  = errors.New("the server that is read from lacks entries of the primary")
	errNoBeat  = errors.New("the primary is out of reach")
)

// judge returns why the tail must connect again and compare, nil if it need not.
// b or err is the result of a beat, and now was the progress of the tail when it
// was sent.
func (w *watch) judge(b *beat, err error, now progress) error {
	if err != nil {
		if w.failed++; w.failed > 1 {
			return fmt.Errorf("%w: %w", errNoBeat, err)
		}
		return nil
	}
	// Since the last beat it has read nothing, although the primary had more.
	silent := w.then.ready && w.last.ID.After(now.at.ID) && now.at == w.then.at && now.idle > w.then.idle
	w.failed, w.then, w.last = 0, now, b.last
	switch {
	case !now.ready:
	case b.of != now.of:
		return errAnother
	case now.at.ID.After(b.last.ID), now.at.ID == b.last.ID && now.at != b.last:
		return errBehind
	case silent:
		return errSilent
	}
	return nil
}
