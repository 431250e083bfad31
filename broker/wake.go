package broker

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Waking readers. Those of a channel that has few are woken by the publisher itself,
// also while the many of another channel wait for their turn. Many are woken by one
// goroutine, in waves: the next wave comes when those that write on goroutines of
// their own have read, and publishers have had the processor for a while. So under
// load one wave carries many events, and without load events are delivered at once.

const (
	// wakeInline is how many readers a publisher wakes itself.
	wakeInline = 64
	// wakeSlice is how many readers of a wave are woken before publishers may apply
	// again.
	wakeSlice = 256
	// writeTime is what one reader's write takes, about. No pause is longer than
	// all readers of a wave need.
	writeTime = 6 * time.Microsecond
	// Publishers have to wait while readers are woken, and hardly get the
	// processor while these write. So there is a pause: after waking readers who
	// space their work themselves wakeShare times what that took, after a wave of
	// others half of that, or a part of what the wave took if this is more.
	wakeShare    = 4
	publishShare = 8

	// A wave is over when all but a part of its readers have read, or after so long:
	// for each of them, and in all. They may be stalled.
	unreadShare     = 16
	readPatience    = 50 * time.Microsecond
	maxReadPatience = 500 * time.Millisecond
	// How often the waker looks whether a wave is over: so many times while its
	// readers write. A signal of the reader that ends the wave, in place of looking,
	// was measured: with 1,000 attached streams it delivers 10.4 and 11.0 times what
	// net/http does, looking 14.8 and 14.5 (make bench BENCH=fanout, medians of five
	// runs each, alternating, on a 2-core VM). Waves came sooner and carried less.
	looks   = 8
	minLook = 50 * time.Microsecond
	maxLook = 5 * time.Millisecond
)

// wave counts the readers that were woken last, together.
type wave struct {
	number atomic.Uint32 // 0 is none
	unread atomic.Int32  // how many of its readers have not read since
}

// next starts another wave, and returns its number.
func (w *wave) next() uint32 {
	w.unread.Store(0)
	return w.number.Add(1)
}

// add counts a reader in that is about to be woken, unless it has not read since an
// earlier wave: it is not waited for again.
func (w *wave) add(s *Subscription, number uint32) {
	if s.wave.CompareAndSwap(0, number) {
		w.unread.Add(1)
	}
}

// remove counts a reader out that reads, or is not to be waited for.
func (w *wave) remove(s *Subscription) {
	if n := s.wave.Load(); n != 0 && s.wave.CompareAndSwap(n, 0) && n == w.number.Load() {
		w.unread.Add(-1)
	}
}

// touch notes that f has something for its readers. Broker.mu is held.
func (b *Broker) touch(f *feed) {
	if f.touched || len(f.readers) == 0 {
		return
	}
	f.touched = true
	if len(f.readers) <= wakeInline {
		b.touched = append(b.touched, f)
	} else {
		b.crowded = append(b.crowded, f)
	}
}

// wake wakes the readers of touched feeds that have few, and has wakeLoop wake the
// others. Broker.mu is held.
func (b *Broker) wake() {
	n := 0
	for i, f := range b.touched {
		if n += len(f.readers); n > wakeInline && i > 0 {
			b.crowded = append(b.crowded, b.touched[i:]...) // few each, but many in all
			break
		}
		f.touched = false
		for _, p := range f.readers {
			p.sub.signal()
		}
	}
	clear(b.touched)
	b.touched = b.touched[:0]
	if len(b.crowded) == 0 {
		return
	}
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// wakeWave wakes the readers of crowded feeds, the smallest first, and says how many
// of them write on goroutines of their own, how many do not, and how long waking them
// took. Publishers can apply, and wake the few readers of other feeds, between its
// slices.
func (b *Broker) wakeWave() (alone, others int, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	number := b.wave.next()
	feeds := b.crowded
	b.crowded, b.waking = b.waking[:0], feeds
	slices.SortStableFunc(feeds, func(f, g *feed) int { return cmp.Compare(len(f.readers), len(g.readers)) })
	room, began := wakeSlice, time.Now()
	for i, f := range feeds {
		f.touched = false // what comes from here on is for the next wave
		// From the last to the first: in place of a reader that leaves comes the last
		// one, which has been woken already, or is yet to come. Readers that join
		// meanwhile have read what this wave is for, or will by themselves.
		for next := len(f.readers); next > 0; next = min(next, len(f.readers)) {
			if room == 0 {
				took += time.Since(began)
				b.yield()
				room, began = wakeSlice, time.Now()
				continue
			}
			next--
			room--
			if s := f.readers[next].sub; b.wakeOne(s, number) {
				alone++
			} else {
				others++
			}
		}
		feeds[i] = nil
	}
	return alone, others, took + time.Since(began)
}

// wakeOne wakes a reader for a wave.
func (b *Broker) wakeOne(s *Subscription, number uint32) (alone bool) {
	b.wave.add(s, number)
	if alone = s.waker.Wake(true); !alone {
		b.wave.remove(s)
	}
	return alone
}

// yield lets others have Broker.mu, which is held, and the processor.
func (b *Broker) yield() {
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
}

// wakeLoop runs until ctx ends.
func (b *Broker) wakeLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := func(d time.Duration) {
		timer.Reset(d)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-b.kick:
			began := time.Now()
			alone, others, took := b.wakeWave()
			pause(min(wakeShare*took, time.Duration(others)*writeTime))
			if alone > 0 {
				b.await(ctx, alone, began, pause)
				pause(min(max(took/2, time.Since(began)/publishShare), time.Duration(alone)*writeTime))
			}
		}
	}
}

// await waits until a wave of readers that write on goroutines of their own is over.
func (b *Broker) await(ctx context.Context, readers int, began time.Time, pause func(time.Duration)) {
	look := min(max(time.Duration(readers)*writeTime/looks, minLook), maxLook)
	patience := min(time.Duration(readers)*readPatience, maxReadPatience)
	for int(b.wave.unread.Load()) > readers/unreadShare && time.Since(began) < patience && ctx.Err() == nil {
		pause(look)
	}
}
