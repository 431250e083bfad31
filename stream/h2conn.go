package stream

import (
	"net"
	"reflect"
	"sync"
	"time"
)

// lane is what the attached streams of one HTTP/2 connection share. A frame that
// is alone when the goroutine that serves the connection comes by costs a TLS
// record and a system call, which is half of what a delivery costs; frames that
// it finds together share them. So streams that have something to say at the
// same time are written at the same time, each by a goroutine of its own: one
// that is stalled holds up no other.
type h2conn struct {
	workers *workers
	conn    net.Conn
	streams int // guarded by lanes.mu

	mu    sync.Mutex // guards what follows
	ready []*attached
	spare []*attached // empty; memory for ready
}

// add has a stream written, which nobody writes now.
func (h *h2conn) add(a *attached) {
	h.mu.Lock()
	h.ready = append(h.ready, a)
	first := len(h.ready) == 1
	h.mu.Unlock()
	if first {
		h.workers.do(h)
	}
}

// run has all that are ready written. It writes the last of them itself: from
// when it has taken them, who comes next begins another run.
func (h *h2conn) run() {
	h.mu.Lock()
	ready := h.ready // of which there is one at least
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

// nudge makes the goroutine that serves the connection ready to run, when those
// that write to it are and have not run yet. If it still waited for their first
// frame it would run as soon as that is there, and send it alone: this way its
// turn comes after theirs. What it is given to do is nothing.
func (r *response) nudge() {
	if w, ok := innermost(r.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Time{}) // there is none: see begin
	}
}

// lanes are those of a Server, by connection.
type h2conns struct {
	mu  sync.Mutex // guards what follows
	all map[net.Conn]*h2conn
}

// join finds the lane of a stream over conn, which must leave it; nil where conn
// does not tell one connection from another.
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

func (hs *h2conns) release(h *h2conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.streams--; h.streams == 0 {
		delete(hs.all, h.conn)
	}
}
