package broker

import (
	"context"
	"time"
)

// Waking readers. A few are woken at once, by whoever published. Many are
// woken by one goroutine, which then leaves them the time to write: under load
// one wake-up carries many events, and an idle broker still delivers at once.

const (
	// wakeInline is how many readers a publisher wakes itself.
	wakeInline = 64
	// wakeShare bounds the part of the time that goes into waking: after
	// waking for a while, publishers have the broker for so many such whiles,
	// but for no longer than the readers need.
	wakeShare = 4
	// wakePause is what one reader's write takes, about.
	wakePause = 6 * time.Microsecond
	// maxWakePause bounds what a wake-up may wait for the one before it.
	maxWakePause = 20 * time.Millisecond
)

// touch notes that s has something for its readers. Broker.mu is held.
func (b *Broker) touch(s *source) {
	if !s.dirty && len(s.subs) > 0 {
		s.dirty = true
		b.touched = append(b.touched, s)
	}
}

// wake sees to it that the readers of touched sources are woken. Broker.mu is
// held.
func (b *Broker) wake() {
	n := 0
	for _, s := range b.touched {
		n += len(s.subs)
	}
	if n <= wakeInline {
		b.wakeAll()
		return
	}
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// wakeAll wakes the readers of touched sources and says how many these were,
// and how many of them write on goroutines of their own. Broker.mu is held.
func (b *Broker) wakeAll() (woken, alone int) {
	for i, s := range b.touched {
		for _, p := range s.subs {
			if p.sub.signal() {
				alone++
			}
		}
		woken += len(s.subs)
		s.dirty = false
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
	return woken, alone
}

// wakePauseAfter is how long to wait after waking has taken a while. That is the
// time on the clock: readers that are many may have begun to write in it.
func wakePauseAfter(took time.Duration, woken, alone int) time.Duration {
	least := min(time.Duration(alone)*wakePause, maxWakePause)
	return max(least, min(wakeShare*took, time.Duration(woken)*wakePause))
}

// wakeLoop runs until ctx ends.
func (b *Broker) wakeLoop(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.kick:
		}
		b.mu.Lock()
		began := time.Now()
		woken, alone := b.wakeAll()
		took := time.Since(began)
		b.mu.Unlock()
		pause.Reset(wakePauseAfter(took, woken, alone))
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}
