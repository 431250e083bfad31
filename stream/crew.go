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
type crew struct {
	writers []*writer
	done    sync.WaitGroup // the goroutines of all of these
	ended   farewell

	mu      sync.Mutex // guards what follows
	poller  poller     // nil until it is needed; it does not change then
	next    int        // the writer that gets the next socket
	sockets map[*socket]struct{}
	closing bool
	empty   chan struct{} // closed when the last socket leaves a crew that closes
}

func newCrew() *crew {
	c := &crew{
		sockets: make(map[*socket]struct{}), empty: make(chan struct{}),
		ended: farewell{kick: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	for range runtime.GOMAXPROCS(0) {
		w := &writer{kick: make(chan struct{}, 1), stop: make(chan struct{})}
		c.writers = append(c.writers, w)
		c.done.Go(w.run)
	}
	c.done.Go(c.ended.run)
	return c
}

// able reports whether the crew can write to connections: the poller is opened
// when there is a first one.
func (c *crew) able() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.poller == nil && !c.closing {
		p, err := newPoller()
		if err != nil {
			return false
		}
		c.poller = p
		c.done.Go(p.run)
	}
	return !c.closing
}

// hand makes the crew, which is able to, write a stream to a line from now on.
func (c *crew) hand(s *Session, line line) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		line.close(false)
		s.end(ReasonClosed)
		return
	}
	k := &socket{session: s, line: line, crew: c, writer: c.writers[c.next]}
	c.next = (c.next + 1) % len(c.writers)
	c.sockets[k] = struct{}{}
	line.watch(k) // before anybody can find k: a line that is closed is not to be watched
	s.socket.Store(k)
	c.mu.Unlock()

	k.ready() // for what came before the stream was detached
}

// release forgets a socket that has been closed.
func (c *crew) release(k *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sockets, k)
	if c.closing && len(c.sockets) == 0 {
		close(c.empty)
	}
}

// close ends all streams, without waiting for a client, and stops the crew.
func (c *crew) close() {
	c.mu.Lock()
	c.closing = true
	if len(c.sockets) == 0 {
		close(c.empty)
	}
	for k := range c.sockets {
		k.leave()
	}
	c.mu.Unlock()
	<-c.empty
	if c.poller != nil {
		c.poller.close()
	}
	for _, w := range c.writers {
		close(w.stop)
	}
	close(c.ended.stop)
	c.done.Wait()
}

// writer writes to the sockets that it was given, one after the other. Nothing
// it does waits for a client.
type writer struct {
	kick  chan struct{}
	stop  chan struct{}
	batch broker.Batch

	behind []*socket // that have missed much, or wait for room; each once

	mu    sync.Mutex // guards what follows
	inbox []*socket  // each once
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
	behindTime  = longPass / 2
	behindShare = 8               // the part of a pass that they get at least
	behindNap   = behindTime / 10 // in which requests are read, when nobody else is written
)

func (w *writer) run() {
	var pass []*socket
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
			if len(pass)+len(w.behind) == 0 {
				break
			}
			began := time.Now()
			for _, k := range pass {
				k.queued.Store(false)
				if k.behind || !k.pending() && k.serve(&w.batch) {
					continue
				}
				k.behind = true
				w.behind = append(w.behind, k)
			}
			clear(pass)
			w.catchUp(began)
			took := time.Since(began)
			switch {
			case took >= longPass:
				nap.Reset(min(took/napShare, maxNap))
			case len(w.behind) > 0:
				nap.Reset(behindNap)
			default:
				continue
			}
			<-nap.C
		}
	}
}

// catchUp writes to those that are behind, in turn, after a pass over the others
// that has begun at a time.
func (w *writer) catchUp(began time.Time) {
	now := time.Now()
	until := now.Add(max(behindTime, now.Sub(began)/behindShare))
	for len(w.behind) > 0 && now.Before(until) {
		k := w.behind[0]
		w.behind[0] = nil
		w.behind = w.behind[1:]
		if k.behind = !k.serve(&w.batch); k.behind {
			w.behind = append(w.behind, k)
		}
		now = time.Now()
	}
}

// add has the writer see to a socket.
func (w *writer) add(k *socket) {
	w.mu.Lock()
	w.inbox = append(w.inbox, k)
	first := len(w.inbox) == 1
	w.mu.Unlock()
	if first {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

// farewell ends streams on a goroutine of its own, because that takes locks,
// and whoever is told may take its time.
type farewell struct {
	kick chan struct{}
	stop chan struct{}

	mu    sync.Mutex // guards ended
	ended []parting
}

// parting is a stream that has ended, and why.
type parting struct {
	socket *socket
	reason Reason
}

func (f *farewell) add(k *socket, reason Reason) {
	f.mu.Lock()
	f.ended = append(f.ended, parting{k, reason})
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

func (f *farewell) run() {
	for {
		select {
		case <-f.stop:
			return
		case <-f.kick:
		}
		f.mu.Lock()
		ended := f.ended
		f.ended = nil
		f.mu.Unlock()
		for _, p := range ended {
			p.socket.session.end(p.reason)
			p.socket.crew.release(p.socket)
		}
	}
}
