package stream

import (
	"runtime"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// writers write the detached streams of a Server: there is a writer for each
// core, a poller that learns from the system which connections are writable or
// have been closed by the client, and a closer for the streams that have ended.
type writers struct {
	all     []*writer
	running sync.WaitGroup // the goroutines of the writers, the poller and the closer
	closer  closer

	mu      sync.Mutex // guards what follows
	poller  poller     // nil until startPoller has succeeded; it does not change after that
	next    int        // index of the writer that gets the next stream
	streams map[*detached]struct{}
	closing bool
	empty   chan struct{} // closed when closing is set and streams is empty
}

func newWriters() *writers {
	ws := &writers{
		streams: make(map[*detached]struct{}), empty: make(chan struct{}),
		closer: closer{kick: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	for range runtime.GOMAXPROCS(0) {
		w := &writer{kick: make(chan struct{}, 1), stop: make(chan struct{})}
		ws.all = append(ws.all, w)
		ws.running.Go(w.run)
	}
	ws.running.Go(ws.closer.run)
	return ws
}

// startPoller starts the poller unless it runs already, and reports whether it
// runs: it does not on systems other than Linux, and after close.
func (ws *writers) startPoller() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.poller == nil && !ws.closing {
		p, err := newPoller()
		if err != nil {
			return false
		}
		ws.poller = p
		ws.running.Go(p.run)
	}
	return !ws.closing
}

// adopt has s written to conn from now on, by one of the writers. startPoller
// must have succeeded. After close it closes conn and ends s instead.
func (ws *writers) adopt(s *Session, conn rawConn) {
	ws.mu.Lock()
	if ws.closing {
		ws.mu.Unlock()
		conn.close(false)
		s.end(ReasonClosed)
		return
	}
	d := &detached{session: s, conn: conn, writers: ws, writer: ws.all[ws.next]}
	ws.next = (ws.next + 1) % len(ws.all)
	ws.streams[d] = struct{}{}
	conn.watch(d) // before d is published: nobody may close a connection that is about to be watched
	s.detached.Store(d)
	ws.mu.Unlock()

	d.wake() // for what was published before s.detached was set
}

// remove removes a stream that has ended.
func (ws *writers) remove(d *detached) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.streams, d)
	if ws.closing && len(ws.streams) == 0 {
		close(ws.empty)
	}
}

// close ends all streams without waiting for any client, and stops the
// goroutines. It must be called once only.
func (ws *writers) close() {
	ws.mu.Lock()
	ws.closing = true
	if len(ws.streams) == 0 {
		close(ws.empty)
	}
	for d := range ws.streams {
		d.endNow()
	}
	ws.mu.Unlock()
	<-ws.empty
	if ws.poller != nil {
		ws.poller.close()
	}
	for _, w := range ws.all {
		close(w.stop)
	}
	close(ws.closer.stop)
	ws.running.Wait()
}

// writer writes its streams one after the other, on one goroutine. It never
// waits for a client.
type writer struct {
	kick  chan struct{}
	stop  chan struct{}
	batch broker.Batch
	chunk chunk // that is being written

	lagging []*detached // streams that still have something to write after their turn; each once

	mu    sync.Mutex  // guards what follows
	inbox []*detached // streams that were woken; each once
}

// Pacing. After a pass over the woken streams that takes at least longPass, the
// writer sleeps for a while. Events that are published meanwhile are written
// together, and the Go scheduler, which polls the network only when no goroutine
// is runnable, gets to read requests. When little is published there is no
// sleep, and events are delivered at once.
const (
	longPass = time.Millisecond
	maxNap   = 4 * time.Millisecond
	napShare = 2 // the sleep lasts 1/napShare of the pass
)

// Lagging streams take long to write and are late already. They are written
// after all others, for a short time per pass, so that new events reach the
// other streams first. Under a constant load they still get a share of the time.
const (
	lagTime  = longPass / 2
	lagShare = 8            // lagging streams get at least 1/lagShare of a pass
	lagNap   = lagTime / 10 // sleep after a pass in which only lagging streams were written
)

// run writes the woken streams, in passes, until w.stop is closed.
func (w *writer) run() {
	var pass []*detached
	nap := time.NewTimer(0)
	defer nap.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.kick:
		}
		for {
			w.mu.Lock()
			pass, w.inbox = w.inbox, pass[:0]
			w.mu.Unlock()
			if len(pass)+len(w.lagging) == 0 {
				break
			}
			began := time.Now()
			for _, d := range pass {
				d.queued.Store(false)
				if d.lagging || !d.pending() && d.serve(&w.batch) {
					continue
				}
				d.lagging = true
				w.lagging = append(w.lagging, d)
			}
			clear(pass)
			w.serveLagging(began)
			took := time.Since(began)
			switch {
			case took >= longPass:
				nap.Reset(min(took/napShare, maxNap))
			case len(w.lagging) > 0:
				nap.Reset(lagNap)
			default:
				continue
			}
			<-nap.C
		}
	}
}

// serveLagging writes lagging streams in turn, until its share of the pass that
// started at began is used up.
func (w *writer) serveLagging(began time.Time) {
	now := time.Now()
	until := now.Add(max(lagTime, now.Sub(began)/lagShare))
	for len(w.lagging) > 0 && now.Before(until) {
		d := w.lagging[0]
		w.lagging[0] = nil
		w.lagging = w.lagging[1:]
		if d.lagging = !d.serve(&w.batch); d.lagging {
			w.lagging = append(w.lagging, d)
		}
		now = time.Now()
	}
}

// add queues a stream that was woken. It is safe for concurrent use and does not
// block; detached.queued keeps a stream from being queued twice.
func (w *writer) add(d *detached) {
	w.mu.Lock()
	w.inbox = append(w.inbox, d)
	first := len(w.inbox) == 1
	w.mu.Unlock()
	if first {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}
