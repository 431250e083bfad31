package stream

import (
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/h2front"
)

// h2conn groups the attached streams of one HTTP/2 connection. The goroutine
// that serves the connection sends the frames that are ready as one TLS record,
// with one system call, which is half the cost of a delivery if it carries a
// single frame. So streams that are woken together are written together, each by
// a goroutine of its own: a stalled stream does not delay the others.
type h2conn struct {
	workers *workers
	conn    net.Conn
	streams int           // that use it, and those of its connection that are detached; guarded by h2conns.mu
	bound   time.Duration // the longest write timeout among them; guarded by h2conns.mu

	mu     sync.Mutex  // guards what follows
	ready  []*attached // woken streams; unless it is empty asked or queued is true
	spare  []*attached // empty: memory for the next ready
	asked  bool        // a task for them was given to the workers
	queued bool        // such a task waits in the crowd
}

// add has a woken stream written, with a crowd or at once. It is safe for concurrent
// use and does not block.
func (h *h2conn) add(a *attached, crowd bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = append(h.ready, a)
	switch {
	case h.asked:
	case !crowd:
		h.asked = true
		h.workers.do(h)
	case !h.queued:
		h.queued = true
		h.workers.doInCrowd((*waitingConn)(h))
	}
}

// close closes the connection, which reads nothing: nobody else can.
func (h *h2conn) close() {
	if front, ok := h.conn.(*h2front.Conn); ok {
		_ = front.Abort()
		return
	}
	_ = h.conn.Close()
}

// hurry has the streams that wait written at once.
func (h *h2conn) hurry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ready) > 0 && !h.asked {
		h.asked = true
		h.workers.do(h)
	}
}

// waitingConn is an h2conn as a task of the crowd.
type waitingConn h2conn

func (w *waitingConn) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}

func (w *waitingConn) run() {
	h := (*h2conn)(w)
	h.mu.Lock()
	h.queued = false
	h.runReady()
}

// run has all ready streams written, the last of them by the goroutine that it
// runs on. Streams that are woken once it has taken the list begin another run.
func (h *h2conn) run() {
	h.mu.Lock()
	h.asked = false
	h.runReady()
}

// runReady does the work of run, and unlocks h.mu.
func (h *h2conn) runReady() {
	ready := h.ready
	if len(ready) == 0 { // another task has taken them
		h.mu.Unlock()
		return
	}
	h.ready, h.spare = h.spare, nil
	h.mu.Unlock()
	last := len(ready) - 1
	for i, a := range ready[:last] {
		if i == last-1 {
			a.response.nudge()
		}
		h.workers.do(a)
	}
	a := ready[last]
	clear(ready)
	h.mu.Lock()
	h.spare = ready[:0]
	h.mu.Unlock()
	a.run()
}

// nudge makes the goroutine that serves the connection runnable, by a message
// that changes nothing. The goroutines that write its streams are runnable
// already, so its turn comes after theirs, and it finds their frames together.
// Otherwise the first frame would wake it, and be sent alone: an event for a hundred
// streams takes a third of the writes (BenchmarkWritesOfAConnection).
func (r *response) nudge() {
	if w, ok := innermost(r.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Time{}) // there was none: see writeHeader
	}
}

// h2conns are the HTTP/2 connections of a Server. It is safe for concurrent use.
type h2conns struct {
	mu  sync.Mutex // guards what follows
	all map[net.Conn]*h2conn
}

// acquire returns the h2conn of conn for one more stream, which must release it. It
// returns nil if conn is nil or cannot be a map key. bound is called with the longest
// write timeout of the streams, when that grows; no lift comes in between.
func (hs *h2conns) acquire(conn net.Conn, workers *workers, writeTimeout time.Duration, bound func(net.Conn, time.Duration)) *h2conn {
	if conn == nil || !reflect.ValueOf(conn).Comparable() {
		return nil
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.all[conn]
	if h == nil {
		h = &h2conn{workers: workers, conn: conn}
		hs.all[conn] = h
	}
	if h.streams++; h.streams == 1 || writeTimeout > h.bound {
		h.bound = writeTimeout
		bound(conn, writeTimeout)
	}
	return h
}

// release ends the use of h by one stream. lift is called if that was the last one; no
// bound comes in between.
func (hs *h2conns) release(h *h2conn, lift func(net.Conn)) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.streams--; h.streams == 0 {
		delete(hs.all, h.conn)
		lift(h.conn)
	}
}
