package stream

import "time"

// hands are the goroutines that write attached streams, each one stream at a
// time. One that has nothing to do waits for a while, because a stream that was
// written is often written again soon, and a stack that has grown is worth
// keeping for that; then it ends.
type hands struct {
	next chan work // taken only by those who wait
	stop chan struct{}
}

// work is something to write.
type work interface{ run() }

// handIdle is how long a goroutine waits for another stream.
const handIdle = time.Second

func newHands() hands {
	return hands{next: make(chan work), stop: make(chan struct{})}
}

// do has something written, which nobody writes now.
func (h *hands) do(w work) {
	select {
	case h.next <- w:
	default:
		go h.work(w)
	}
}

func (h *hands) work(w work) {
	timer := time.NewTimer(handIdle)
	defer timer.Stop()
	for {
		w.run()
		timer.Reset(handIdle)
		select {
		case w = <-h.next:
		case <-timer.C:
			return
		case <-h.stop:
			return
		}
	}
}
