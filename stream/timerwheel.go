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
type timerWheel struct {
	stop    chan struct{}
	running sync.WaitGroup
	kick    chan struct{} // something is due sooner than all that was

	began time.Time

	mu       sync.Mutex              // guards what follows
	users    int                     // attached streams, which need it even when its server is closed
	closed   bool                    // it stops once there are none
	now      int64                   // the tick up to which all is done
	next     int64                   // the tick that the goroutine sleeps until; none if it has no end
	slots    [timerSlots]*timerEntry // lists, by tick
	occupied [timerSlots / 64]uint64
}

const (
	timerTick  = 50 * time.Millisecond
	timerSlots = 1024 // of one tick each: 51 s, and what is due later is asked again by then
	noTick     = int64(1)<<62 - 1
)

// tooth is what a wheel knows of one session.
type timerEntry struct {
	session    *Session
	tick       atomic.Int64 // tick; 0: it is not in the wheel; changed with wheel.mu held
	prev, next *timerEntry  // wheel.mu guards them
}

func newTimerWheel(began time.Time) *timerWheel {
	w := &timerWheel{
		stop: make(chan struct{}), kick: make(chan struct{}, 1),
		began: began, next: noTick,
	}
	w.running.Go(w.run)
	return w
}

// join says that an attached stream begins, which must leave. It reports false
// if the wheel is closed.
func (w *timerWheel) acquire() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.users++
	return true
}

func (w *timerWheel) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users--; w.closed && w.users == 0 {
		close(w.stop)
	}
}

// close stops the wheel: at once, and waits for that, or when the attached
// streams have ended, some of which may be stalled.
func (w *timerWheel) close() {
	w.mu.Lock()
	w.closed = true
	inUse := w.users > 0
	w.mu.Unlock()
	if inUse {
		return
	}
	close(w.stop)
	w.running.Wait()
}

// wake sees to it that the session of t is woken at a time, or before it.
func (w *timerWheel) wakeBy(e *timerEntry, due instant) {
	if due == never {
		return
	}
	tick := tickOf(due)
	if at := e.tick.Load(); at != 0 && at <= tick {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(e, tick)
}

// put has the session of t woken at a tick, and not before. wheel.mu is held.
func (w *timerWheel) set(e *timerEntry, tick int64) {
	tick = min(max(tick, w.now+1), w.now+timerSlots-1)
	if e.tick.Load() != 0 {
		w.unlink(e)
	}
	slot := tick % timerSlots
	e.tick.Store(tick)
	e.prev, e.next = nil, w.slots[slot]
	if e.next != nil {
		e.next.prev = e
	}
	w.slots[slot] = e
	w.occupied[slot/64] |= 1 << (slot % 64)
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
func tickOf(due instant) int64 { return max(int64((due+timerTick-1)/timerTick), 1) }

// forget takes t out.
func (w *timerWheel) remove(e *timerEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.tick.Load() != 0 {
		w.unlink(e)
	}
}

// remove takes t out of its slot. wheel.mu is held.
func (w *timerWheel) unlink(e *timerEntry) {
	slot := e.tick.Load() % timerSlots
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		w.slots[slot] = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	if w.slots[slot] == nil {
		w.occupied[slot/64] &^= 1 << (slot % 64)
	}
	e.tick.Store(0)
	e.prev, e.next = nil, nil
}

func (w *timerWheel) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.kick:
		case <-timer.C:
		}
		if until, some := w.advance(time.Now()); some {
			timer.Reset(time.Until(until))
		} else {
			timer.Stop()
		}
	}
}

// turn wakes who is due, and says when to turn again.
func (w *timerWheel) advance(now time.Time) (next time.Time, some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tick := int64(now.Sub(w.began) / timerTick)
	for at := w.nextTick(w.now); at <= tick; at = w.nextTick(w.now) {
		w.now = at
		for e := w.slots[at%timerSlots]; e != nil; e = w.slots[at%timerSlots] {
			w.unlink(e)
			if due := e.session.onTimer(now.Sub(w.began)); due != never {
				w.set(e, tickOf(due))
			}
		}
	}
	w.now = max(w.now, tick)
	w.next = w.nextTick(w.now)
	return w.began.Add(time.Duration(w.next) * timerTick), w.next != noTick
}

// first is the first tick after one at which somebody is due; noTick if there
// is none. wheel.mu is held.
func (w *timerWheel) nextTick(after int64) int64 {
	start := (after + 1) % timerSlots
	word, bit := start/64, start%64
	for i := range int64(len(w.occupied)) + 1 {
		bitsLeft := w.occupied[(word+i)%int64(len(w.occupied))]
		switch i {
		case 0:
			bitsLeft &= ^uint64(0) << bit
		case int64(len(w.occupied)):
			bitsLeft &= 1<<bit - 1
		}
		if bitsLeft != 0 {
			slot := (word+i)%int64(len(w.occupied))*64 + int64(bits.TrailingZeros64(bitsLeft))
			return after + 1 + (slot-start+timerSlots)%timerSlots
		}
	}
	return noTick
}
