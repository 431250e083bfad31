package stream

import (
	"sync"
	"sync/atomic"
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
	coming  int // streams that reserve has let in, and adopt or release has not been called for
	closing bool
	empty   chan struct{} // closed when closing is set, streams is empty and none is coming
}

// newWriters starts writers, one for each figures.
func newWriters(each []figures) *writers {
	ws := &writers{
		streams: make(map[*detached]struct{}), empty: make(chan struct{}),
		closer: closer{kick: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	for i := range each {
		w := &writer{all: ws, figures: &each[i], kick: make(chan struct{}, 1), stop: make(chan struct{})}
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
	return ws.polls()
}

// polls is startPoller. The caller holds mu.
func (ws *writers) polls() bool {
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

// reserve is startPoller for a stream that adopt, or release, will be called for: if it
// reports true, close waits for that.
func (ws *writers) reserve() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !ws.polls() {
		return false
	}
	ws.coming++
	return true
}

// admit is reserve for a stream whose connection needs no poller.
func (ws *writers) admit() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closing {
		return false
	}
	ws.coming++
	return true
}

// release gives back what reserve or admit has reserved, for a stream that is not adopted.
func (ws *writers) release() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.coming--
	ws.emptied()
}

// adopt has s, for which reserve or admit was called, written to conn from now on, by one of the
// writers. After close that is what ends s in good order, and no more.
func (ws *writers) adopt(s *Session, conn rawConn) {
	ws.mu.Lock()
	ws.coming--
	d := &detached{session: s, conn: conn, writer: ws.all[ws.next]}
	switch conn.(type) {
	case *frontConn, *takenConn:
		d.bare = true
	}
	ws.next = (ws.next + 1) % len(ws.all)
	ws.streams[d] = struct{}{}
	s.figures = d.writer.figures
	conn.watch(d) // before d is published: nobody may close a connection that is about to be watched
	s.detached.Store(d)
	if ws.closing {
		d.mustEnd.Store(true)
	}
	ws.mu.Unlock()

	d.wake(true) // for what was published before s.detached was set
}

// remove removes a stream that has ended.
func (ws *writers) remove(d *detached) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.streams, d)
	ws.emptied()
}

// emptied closes empty if it is time. The caller holds mu.
func (ws *writers) emptied() {
	if ws.closing && len(ws.streams)+ws.coming == 0 {
		close(ws.empty)
	}
}

// close ends all streams without waiting for any client, and stops the
// goroutines. It must be called once only.
func (ws *writers) close() {
	ws.mu.Lock()
	ws.closing = true
	ws.emptied()
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
	all     *writers
	figures *figures

	kick  chan struct{}
	stop  chan struct{}
	batch broker.Batch
	chunk chunk // that is being written

	lagging []*detached // streams that still have something to write after their turn; each once

	breather breather
	first    []*detached // urgent streams whose turn it is
	firstAt  int         // index of the next of them
	notFirst time.Time   // until when the other streams have their share

	mu      sync.Mutex  // guards what follows
	inbox   []*detached // streams that were woken in a crowd; each once
	urgent  []*detached // streams that were woken alone; each once
	waiting atomic.Bool // urgent is not empty
}

// Pacing. After a pass over the woken streams that takes at least longPass, the
// writer sleeps for a while. Events that are published meanwhile are written
// together, and the Go scheduler, which polls the network only when no goroutine
// is runnable, gets to read requests. When little is published there is no
// sleep, and events are delivered at once. What others have had in the middle of the
// pass, in which the writer breathes, is taken off the sleep.
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

// Urgent streams, which were woken alone or with few others, are written before those
// of a crowd, also in the middle of a pass. Where there are always some, they get half
// of the time.

// run writes the woken streams, in passes, until w.stop is closed.
func (w *writer) run() {
	defer w.breather.close()
	var pass []*detached
	nap := time.NewTimer(0)
	defer nap.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.kick:
		}
		w.breather.begin(time.Now())
		for {
			w.mu.Lock()
			pass, w.inbox = w.inbox, pass[:0]
			w.mu.Unlock()
			if len(pass)+len(w.lagging) == 0 && !w.hasUrgent() {
				break
			}
			began, restedBefore := time.Now(), w.breather.rested
			if len(pass)+len(w.lagging) > 0 {
				w.serveUrgent(turnTime)
			} else {
				w.notFirst = time.Time{} // no others have a share
				w.serveUrgent(urgentPass)
			}
			for i, d := range pass {
				d.queued.Store(false)
				w.serve(d)
				w.afterOne(i)
			}
			clear(pass)
			w.serveLagging(began)
			rested := w.breather.rested - restedBefore
			took := time.Since(began) - rested
			switch {
			case took >= longPass:
				w.nap(nap, min(took/napShare, maxNap)-rested)
			case len(w.lagging) > 0:
				w.nap(nap, lagNap)
			default:
				w.breather.breathe()
			}
		}
	}
}

// serve serves a stream, or has it wait with the lagging ones.
func (w *writer) serve(d *detached) {
	if d.lagging || !d.pending() && d.serve(&w.batch) {
		return
	}
	d.lagging = true
	w.lagging = append(w.lagging, d)
}

// nap sleeps, but for urgent streams.
func (w *writer) nap(timer *time.Timer, d time.Duration) {
	if d <= 0 {
		w.breather.breathe()
		return
	}
	timer.Reset(d)
	for {
		select {
		case <-timer.C:
			w.breather.begin(time.Now())
			return
		case <-w.kick: // after the nap all are looked for
			w.serveUrgent(turnTime)
		}
	}
}

// urgentPass bounds a pass over urgent streams when no others wait.
const urgentPass = 8 * turnTime

// looksEach is how many streams are written before the clock is looked at.
const looksEach = 8

// afterOne lets urgent streams and other goroutines have their turn after a stream,
// the i-th, was written.
func (w *writer) afterOne(i int) {
	if w.hasUrgent() {
		w.serveUrgent(turnTime)
	}
	if i%looksEach == looksEach-1 {
		w.breather.breathe()
	}
}

// hasUrgent reports whether urgent streams wait.
func (w *writer) hasUrgent() bool { return w.firstAt < len(w.first) || w.waiting.Load() }

// serveUrgent serves urgent streams until none waits or their turn is over. Then the
// others have their share, which is as long, and serveUrgent does nothing until its end.
func (w *writer) serveUrgent(turn time.Duration) {
	began := time.Now()
	if began.Before(w.notFirst) {
		return
	}
	until := began.Add(turn)
	for i := 0; w.hasUrgent(); i++ {
		if i%looksEach == looksEach-1 {
			if !time.Now().Before(until) {
				break
			}
			w.breather.breathe()
		}
		if w.firstAt == len(w.first) {
			w.mu.Lock()
			w.first, w.urgent = w.urgent, w.first[:0]
			w.waiting.Store(false)
			w.mu.Unlock()
			w.firstAt = 0
			continue
		}
		d := w.first[w.firstAt]
		w.first[w.firstAt] = nil
		w.firstAt++
		d.urgent.Store(false)
		w.serve(d)
	}
	now := time.Now()
	w.notFirst = now.Add(now.Sub(began))
}

// serveLagging writes lagging streams in turn, until its share of the pass that
// started at began is used up.
func (w *writer) serveLagging(began time.Time) {
	now := time.Now()
	until := now.Add(max(lagTime, now.Sub(began)/lagShare))
	for i := 0; len(w.lagging) > 0 && now.Before(until); i++ {
		d := w.lagging[0]
		w.lagging[0] = nil
		w.lagging = w.lagging[1:]
		if d.lagging = !d.serve(&w.batch); d.lagging {
			w.lagging = append(w.lagging, d)
		}
		w.afterOne(i)
		now = time.Now()
	}
}

// addUrgent queues a stream that was woken alone, as add does.
func (w *writer) addUrgent(d *detached) {
	w.mu.Lock()
	w.urgent = append(w.urgent, d)
	first := len(w.urgent) == 1
	w.waiting.Store(true)
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// add queues a stream that was woken in a crowd. It is safe for concurrent use and does not
// block; detached.queued keeps a stream from being queued twice.
func (w *writer) add(d *detached) {
	w.mu.Lock()
	w.inbox = append(w.inbox, d)
	first := len(w.inbox) == 1
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// wake wakes the writer.
func (w *writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}
