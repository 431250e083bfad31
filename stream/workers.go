package stream

import "time"

// hands are the goroutines that write attached streams, each one stream at a
// time. One that has nothing to do waits for a while, because a stream that was
// written is often written again soon, and a stack that has grown is worth
// keeping for that; then it ends.
type workers struct {
	tasks chan task // taken only by those who wait
	stop  chan struct{}
}

// work is something to write.
type task interface{ run() }

// handIdle is how long a goroutine waits for another stream.
const workerIdle = time.Second

func newWorkers() workers {
	return workers{tasks: make(chan task), stop: make(chan struct{})}
}

// do has something written, which nobody writes now.
func (ws *workers) do(t task) {
	select {
	case ws.tasks <- t:
	default:
		go ws.work(t)
	}
}

func (ws *workers) work(t task) {
	timer := time.NewTimer(workerIdle)
	defer timer.Stop()
	for {
		t.run()
		timer.Reset(workerIdle)
		select {
		case t = <-ws.tasks:
		case <-timer.C:
			return
		case <-ws.stop:
			return
		}
	}
}
