package stream

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// timerWheel calls Session.onTimer at the time that a session has set, or up to
// one tick later. One wheel serves all streams of a Server, in place of a timer
// for each. A stream that sets a later time than before, as a busy one does with
// every write, does not touch the wheel: onTimer is called at the earlier time
// and returns the later one. Methods are safe for concurrent use.
type timerWheel struct {
	stop    chan struct{}
	running sync.WaitGroup
	kick    chan struct{} // an entry is due before next

	began time.Time

	mu       sync.Mutex              // guards what follows
	users    int                     // attached streams, which need the wheel even after close
	closed   bool                    // the wheel stops when users is 0
	now      int64                   // the last tick whose entries were called
	next     int64                   // the tick that run sleeps until, or noTick
	slots    [timerSlots]*timerEntry // doubly linked lists, by tick modulo timerSlots
	occupied [timerSlots / 64]uint64 // a bit for each slot that is not empty
}

const (
	timerTick  = 50 * time.Millisecond
	timerSlots = 1024 // 51 s of ticks; an entry that is due later is asked again by then
	noTick     = int64(1)<<62 - 1
)

// timerEntry is the timer of one session.
type timerEntry struct {
	session    *Session
	tick       atomic.Int64 // at which it is called, 0 if not in the wheel; written with timerWheel.mu held
	prev, next *timerEntry  // guarded by timerWheel.mu
}

func newTimerWheel(began time.Time) *timerWheel {
	w := &timerWheel{
		stop: make(chan struct{}), kick: make(chan struct{}, 1),
		began: began, next: noTick,
	}
	w.running.Go(w.run)
	return w
}

// acquire keeps the wheel running for an attached stream, which must call
// release when it ends. It reports false if the wheel is closed.
func (w *timerWheel) acquire() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.users++
	return true
}

// release ends the use of the wheel by an attached stream.
func (w *timerWheel) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users--; w.closed && w.users == 0 {
		close(w.stop)
	}
}

// close stops the wheel. If attached streams use it close returns at once, and
// the wheel stops when the last of them has ended: some may be stalled. Otherwise
// close waits until the wheel has stopped. It must be called once only.
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

// wakeBy has the session of e called when due, or earlier if it has set an
// earlier time before. never sets nothing.
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

// set has the session of e called at a tick, in place of what was set before. The
// caller holds w.mu.
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

// tickOf is the first tick that is not before due: a session that is called
// early would find nothing due.
func tickOf(due instant) int64 { return max(int64((due+timerTick-1)/timerTick), 1) }

// remove removes e, if it is in the wheel.
func (w *timerWheel) remove(e *timerEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.tick.Load() != 0 {
		w.unlink(e)
	}
}

// unlink removes e from its slot. The caller holds w.mu.
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

// run calls the sessions that are due, until w.stop is closed.
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

// advance calls the sessions that are due by now, and returns the time at which
// the next one is due, if there is any.
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

// nextTick returns the first tick after the given one that has an entry, or
// noTick. The caller holds w.mu.
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
