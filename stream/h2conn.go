package stream

import (
	"net"
	"reflect"
	"sync"
	"time"
)

// h2conn groups the attached streams of one HTTP/2 connection. The goroutine
// that serves the connection sends the frames that are ready as one TLS record,
// with one system call, which is half the cost of a delivery if it carries a
// single frame. So streams that are woken together are written together, each by
// a goroutine of its own: a stalled stream does not delay the others.
type h2conn struct {
	workers *workers
	conn    net.Conn
	streams int // that use it; guarded by h2conns.mu

	mu    sync.Mutex  // guards what follows
	ready []*attached // woken streams; a task for them exists unless it is empty
	spare []*attached // empty: memory for the next ready
}

// add has a woken stream written. It is safe for concurrent use and does not block.
func (h *h2conn) add(a *attached) {
	h.mu.Lock()
	h.ready = append(h.ready, a)
	first := len(h.ready) == 1
	h.mu.Unlock()
	if first {
		h.workers.do(h)
	}
}

// run has all ready streams written, the last of them by the goroutine that it
// runs on. Streams that are woken once it has taken the list begin another run.
func (h *h2conn) run() {
	h.mu.Lock()
	ready := h.ready // at least one
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
// Otherwise the first frame would wake it, and be sent alone.
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

// acquire returns the h2conn of conn for one more stream, which must release it.
// It returns nil if conn is nil or cannot be a map key.
func (hs *h2conns) acquire(conn net.Conn, workers *workers) *h2conn {
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
	h.streams++
	return h
}

// release ends the use of h by one stream.
func (hs *h2conns) release(h *h2conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.streams--; h.streams == 0 {
		delete(hs.all, h.conn)
	}
}
