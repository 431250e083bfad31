package stream

import (
	"runtime"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// crew writes the detached streams of a Server: a writer for each core, a
// poller that hears from the system what has become of their sockets, and one
// that sees off the streams that have ended.
type writers struct {
	all     []*writer
	running sync.WaitGroup // the goroutines of all of these
	closer  closer

	mu      sync.Mutex // guards what follows
	poller  poller     // nil until it is needed; it does not change then
	next    int        // the writer that gets the next socket
	streams map[*detached]struct{}
	closing bool
	empty   chan struct{} // closed when the last socket leaves a crew that closes
}

func newWriters() *writers {
	c := &writers{
		streams: make(map[*detached]struct{}), empty: make(chan struct{}),
		closer: closer{kick: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	for range runtime.GOMAXPROCS(0) {
		w := &writer{kick: make(chan struct{}, 1), stop: make(chan struct{})}
		c.all = append(c.all, w)
		c.running.Go(w.run)
	}
	c.running.Go(c.closer.run)
	return c
}

// able reports whether the crew can write to connections: the poller is opened
// when there is a first one.
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

// hand makes the crew, which is able to, write a stream to a line from now on.
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
	conn.watch(d) // before anybody can find k: a line that is closed is not to be watched
	s.detached.Store(d)
	ws.mu.Unlock()

	d.wake() // for what came before the stream was detached
}

// release forgets a socket that has been closed.
func (ws *writers) remove(d *detached) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.streams, d)
	if ws.closing && len(ws.streams) == 0 {
		close(ws.empty)
	}
}

// close ends all streams, without waiting for a client, and stops the crew.
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

// writer writes to the sockets that it was given, one after the other. Nothing
// it does waits for a client.
type writer struct {
	kick  chan struct{}
	stop  chan struct{}
	batch broker.Batch

	lagging []*detached // that have missed much, or wait for room; each once

	mu    sync.Mutex  // guards what follows
	inbox []*detached // each once
}

// Pacing. A pass over the sockets that takes longer than longPass is followed
// by a nap: what is published meanwhile is written together, and the Go
// scheduler, which polls the network only when it has nothing else to do, takes
// in requests. An idle hub delivers at once.
const (
	longPass = time.Millisecond
	maxNap   = 4 * time.Millisecond
	napShare = 2 // the part of a pass that its nap takes
)

// Those that are behind take long, and are late already: they are written when
// all others have been, and for a short while at a time, so that what is
// published meanwhile overtakes them. While there is always something new, they
// have a share of the time.
const (
	lagTime  = longPass / 2
	lagShare = 8            // the part of a pass that they get at least
	lagNap   = lagTime / 10 // in which requests are read, when nobody else is written
)

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

// catchUp writes to those that are behind, in turn, after a pass over the others
// that has begun at a time.
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

// add has the writer see to a socket.
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
