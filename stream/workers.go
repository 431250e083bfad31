package stream

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// workers are the goroutines that write attached streams, each one stream at a
// time. They are started when needed. A worker without a task waits for
// workerIdle before it ends, because the next task often comes soon, and a stack
// that has grown already makes it cheaper.
//
// Streams that are woken in a crowd wait for each other: only some of them are
// written at a time. If all were runnable at once, a stream that is woken alone, and
// every request, would wait in the queue of the Go scheduler behind them.
type workers struct {
	tasks chan job // unbuffered: a send succeeds only if a worker is idle
	stop  chan struct{}

	slice atomic.Uint32 // the number of the slice of the crowd that is written
	left  atomic.Int32  // how many of its tasks must end before the next slice begins
	over  chan struct{} // receives when left is 0

	mu          sync.Mutex  // guards what follows
	crowd       []crowdTask // that wait; each once
	spare       []crowdTask // empty: memory for the next crowd
	dispatching bool        // dispatch runs
	stopped     bool

	breather breather // of dispatch
}

// task writes one attached stream, or those of an HTTP/2 connection.
type task interface{ run() }

// crowdTask is a task that may wait for others.
type crowdTask interface {
	task
	size() int // how many streams it writes at once
}

// job is a task, and the slice of the crowd that it belongs to; 0 is none.
type job struct {
	task  task
	slice uint32
}

const (
	// workerIdle is how long a worker waits for its next task.
	workerIdle = time.Second
	// sliceStreams is how many streams of a crowd are written at a time, for each
	// core: what that takes is less than a millisecond, and more than many times
	// what passing from one slice to the next does.
	sliceStreams = 32
	maxSlice     = 4 * sliceStreams
	// A slice is over when all but a part of its streams are written, or after
	// slicePatience: they may be stalled.
	unwrittenShare = 16
	slicePatience  = 2 * time.Millisecond
)

func newWorkers() *workers {
	return &workers{tasks: make(chan job), stop: make(chan struct{}), over: make(chan struct{}, 1)}
}

// do runs t on an idle worker, or on a new one. It does not block, and is safe
// for concurrent use, also after stop is closed.
func (ws *workers) do(t task) { ws.start(job{task: t}) }

func (ws *workers) start(j job) {
	select {
	case ws.tasks <- j:
	default:
		go ws.work(j)
	}
}

// doInCrowd runs t after those of the crowd that wait already. It does not block, and
// is safe for concurrent use, also after stop is closed.
func (ws *workers) doInCrowd(t crowdTask) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.crowd = append(ws.crowd, t)
	if !ws.dispatching {
		ws.dispatching = true
		go ws.dispatch()
	}
}

// dispatch runs the tasks of the crowd, a slice at a time, until none waits.
func (ws *workers) dispatch() {
	patience := time.NewTimer(0)
	defer patience.Stop()
	for crowd := ws.nextCrowd(nil); len(crowd) > 0; crowd = ws.nextCrowd(crowd) {
		for rest := crowd; len(rest) > 0; {
			n := ws.sliceOf(rest, ws.breather.breath)
			ws.runSlice(rest[:n], patience)
			if rest = rest[n:]; len(rest) > 0 {
				ws.breather.rest(time.Now())
			}
		}
	}
}

// nextCrowd returns the tasks that wait. done is memory for later ones. If none waits
// dispatch must end.
func (ws *workers) nextCrowd(done []crowdTask) []crowdTask {
	clear(done)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if done != nil {
		ws.spare = done[:0]
	}
	if len(ws.crowd) == 0 {
		ws.dispatching = false
		if ws.stopped {
			ws.breather.close()
		}
		return nil
	}
	crowd := ws.crowd
	ws.crowd, ws.spare = ws.spare, nil
	return crowd
}

// close ends the workers that have no task.
func (ws *workers) close() {
	close(ws.stop)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.stopped = true
	if !ws.dispatching {
		ws.breather.close()
	}
}

// sliceOf returns how many of the tasks are run at a time: more if others take the
// cores for longer, so that a crowd gets its share.
func (ws *workers) sliceOf(tasks []crowdTask, breath time.Duration) int {
	cores := runtime.GOMAXPROCS(0)
	room := cores * min(max(sliceStreams, int(sliceStreams*breathShare*breath/turnTime)), maxSlice)
	for i, t := range tasks {
		if room <= 0 {
			return i
		}
		room -= t.size()
	}
	return len(tasks)
}

// runSlice runs tasks, and returns when the most of them have ended.
func (ws *workers) runSlice(tasks []crowdTask, patience *time.Timer) {
	select {
	case <-ws.over: // of a slice that was not waited for until its end
	default:
	}
	ws.left.Store(int32(len(tasks) - len(tasks)/unwrittenShare))
	number := ws.slice.Add(1)
	if number == 0 {
		number = ws.slice.Add(1)
	}
	for _, t := range tasks {
		ws.start(job{t, number})
	}
	patience.Reset(slicePatience)
	select {
	case <-ws.over:
	case <-patience.C:
	}
}

// ended counts out a job of the crowd.
func (ws *workers) ended(j job) {
	if j.slice != 0 && j.slice == ws.slice.Load() && ws.left.Add(-1) == 0 {
		select {
		case ws.over <- struct{}{}:
		default:
		}
	}
}

// work runs j and then further tasks, until there is none for workerIdle.
func (ws *workers) work(j job) {
	timer := time.NewTimer(workerIdle)
	defer timer.Stop()
	for {
		j.task.run()
		ws.ended(j)
		timer.Reset(workerIdle)
		select {
		case j = <-ws.tasks:
		case <-timer.C:
			return
		case <-ws.stop:
			return
		}
	}
}
