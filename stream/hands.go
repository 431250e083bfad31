package stream

import "time"

// hands are the goroutines that write attached streams, each one stream at a
// time. One that has nothing to do waits for a while, because a stream that was
// written is often written again soon, and a stack that has grown is worth
// keeping for that; then it ends.
type hands struct {
	next chan *attached // taken only by those who wait
	stop chan struct{}
}

// handIdle is how long a goroutine waits for another stream.
const handIdle = time.Second

func newHands() hands {
	return hands{next: make(chan *attached), stop: make(chan struct{})}
}

// write has a stream written, which nobody writes now.
func (h *hands) write(a *attached) {
	select {
	case h.next <- a:
	default:
		go h.work(a)
	}
}

func (h *hands) work(a *attached) {
	timer := time.NewTimer(handIdle)
	defer timer.Stop()
	for {
		a.run()
		timer.Reset(handIdle)
		select {
		case a = <-h.next:
		case <-timer.C:
			return
		case <-h.stop:
			return
		}
	}
}
