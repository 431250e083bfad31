package stream

import "time"

// workers are the goroutines that write attached streams, each one stream at a
// time. They are started when needed. A worker without a task waits for
// workerIdle before it ends, because the next task often comes soon, and a stack
// that has grown already makes it cheaper.
type workers struct {
	tasks chan task // unbuffered: a send succeeds only if a worker is idle
	stop  chan struct{}
}

// task writes one attached stream, or those of an HTTP/2 connection.
type task interface{ run() }

// workerIdle is how long a worker waits for its next task.
const workerIdle = time.Second

func newWorkers() workers {
	return workers{tasks: make(chan task), stop: make(chan struct{})}
}

// do runs t on an idle worker, or on a new one. It does not block, and is safe
// for concurrent use, also after stop is closed.
func (ws *workers) do(t task) {
	select {
	case ws.tasks <- t:
	default:
		go ws.work(t)
	}
}

// work runs t and then further tasks, until there is none for workerIdle.
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
