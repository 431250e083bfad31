package stream

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// wheel wakes sessions at a time that they ask for, which is not exact: they
// are woken up to a tick late. There is one for all streams of a Server, in
// place of a timer a stream, and it costs nothing while they are busy: what is
// due later than it was before is found out when it was due before.
type wheel struct {
	stop chan struct{}
	done sync.WaitGroup
	kick chan struct{} // something is due sooner than all that was

	began time.Time

	mu    sync.Mutex         // guards what follows
	now   int64              // the tick up to which all is done
	next  int64              // the tick that the goroutine sleeps until; none if it has no end
	slots [wheelSlots]*tooth // lists, by tick
	used  [wheelSlots / 64]uint64
}

const (
	wheelTick  = 50 * time.Millisecond
	wheelSlots = 1024 // of one tick each: 51 s, and what is due later is asked again by then
	noTick     = int64(1)<<62 - 1
)

// tooth is what a wheel knows of one session.
type tooth struct {
	session    *Session
	at         atomic.Int64 // tick; 0: it is not in the wheel; changed with wheel.mu held
	prev, next *tooth       // wheel.mu guards them
}

func newWheel(began time.Time) *wheel {
	w := &wheel{
		stop: make(chan struct{}), kick: make(chan struct{}, 1),
		began: began, next: noTick,
	}
	w.done.Go(w.run)
	return w
}

// close stops the wheel. Nobody is woken any more.
func (w *wheel) close() {
	close(w.stop)
	w.done.Wait()
}

// wake sees to it that the session of t is woken at a time, or before it.
func (w *wheel) wake(t *tooth, due instant) {
	if due == never {
		return
	}
	tick := tickOf(due)
	if at := t.at.Load(); at != 0 && at <= tick {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(t, tick)
}

// put has the session of t woken at a tick, and not before. wheel.mu is held.
func (w *wheel) put(t *tooth, tick int64) {
	tick = min(max(tick, w.now+1), w.now+wheelSlots-1)
	if t.at.Load() != 0 {
		w.remove(t)
	}
	slot := tick % wheelSlots
	t.at.Store(tick)
	t.prev, t.next = nil, w.slots[slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[slot] = t
	w.used[slot/64] |= 1 << (slot % 64)
	if tick < w.next {
		w.next = tick
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

// tickOf is the tick at which something is due: up to the next full one,
// because a session that is woken early would find nothing due.
func tickOf(due instant) int64 { return max(int64((due+wheelTick-1)/wheelTick), 1) }

// forget takes t out.
func (w *wheel) forget(t *tooth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.at.Load() != 0 {
		w.remove(t)
	}
}

// remove takes t out of its slot. wheel.mu is held.
func (w *wheel) remove(t *tooth) {
	slot := t.at.Load() % wheelSlots
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[slot] = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	if w.slots[slot] == nil {
		w.used[slot/64] &^= 1 << (slot % 64)
	}
	t.at.Store(0)
	t.prev, t.next = nil, nil
}

func (w *wheel) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.kick:
		case <-timer.C:
		}
		if until, some := w.turn(time.Now()); some {
			timer.Reset(time.Until(until))
		} else {
			timer.Stop()
		}
	}
}

// turn wakes who is due, and says when to turn again.
func (w *wheel) turn(now time.Time) (next time.Time, some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tick := int64(now.Sub(w.began) / wheelTick)
	for at := w.first(w.now); at <= tick; at = w.first(w.now) {
		w.now = at
		for t := w.slots[at%wheelSlots]; t != nil; t = w.slots[at%wheelSlots] {
			w.remove(t)
			if due := t.session.ring(now.Sub(w.began)); due != never {
				w.put(t, tickOf(due))
			}
		}
	}
	w.now = max(w.now, tick)
	w.next = w.first(w.now)
	return w.began.Add(time.Duration(w.next) * wheelTick), w.next != noTick
}

// first is the first tick after one at which somebody is due; noTick if there
// is none. wheel.mu is held.
func (w *wheel) first(after int64) int64 {
	start := (after + 1) % wheelSlots
	word, bit := start/64, start%64
	for i := range int64(len(w.used)) + 1 {
		bitsLeft := w.used[(word+i)%int64(len(w.used))]
		switch i {
		case 0:
			bitsLeft &= ^uint64(0) << bit
		case int64(len(w.used)):
			bitsLeft &= 1<<bit - 1
		}
		if bitsLeft != 0 {
			slot := (word+i)%int64(len(w.used))*64 + int64(bits.TrailingZeros64(bitsLeft))
			return after + 1 + (slot-start+wheelSlots)%wheelSlots
		}
	}
	return noTick
}
