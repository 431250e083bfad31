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
type lane struct {
	hands   *hands
	conn    net.Conn
	streams int // guarded by lanes.mu

	mu    sync.Mutex // guards what follows
	ready []*attached
	spare []*attached // empty; memory for ready
}

// add has a stream written, which nobody writes now.
func (l *lane) add(a *attached) {
	l.mu.Lock()
	l.ready = append(l.ready, a)
	first := len(l.ready) == 1
	l.mu.Unlock()
	if first {
		l.hands.do(l)
	}
}

// run has all that are ready written. It writes the last of them itself: from
// when it has taken them, who comes next begins another run.
func (l *lane) run() {
	l.mu.Lock()
	ready := l.ready // of which there is one at least
	l.ready, l.spare = l.spare, nil
	l.mu.Unlock()
	last := len(ready) - 1
	for i, a := range ready[:last] {
		if i == last-1 {
			a.conn.nudge()
		}
		l.hands.do(a)
	}
	a := ready[last]
	clear(ready)
	l.mu.Lock()
	l.spare = ready[:0]
	l.mu.Unlock()
	a.run()
}

// nudge makes the goroutine that serves the connection ready to run, when those
// that write to it are and have not run yet. If it still waited for their first
// frame it would run as soon as that is there, and send it alone: this way its
// turn comes after theirs. What it is given to do is nothing.
func (c *conn) nudge() {
	if w, ok := innermost(c.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Time{}) // there is none: see begin
	}
}

// lanes are those of a Server, by connection.
type lanes struct {
	mu  sync.Mutex // guards what follows
	all map[net.Conn]*lane
}

// join finds the lane of a stream over conn, which must leave it; nil where conn
// does not tell one connection from another.
func (l *lanes) join(conn net.Conn, hands *hands) *lane {
	if conn == nil || !reflect.ValueOf(conn).Comparable() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.all[conn]
	if n == nil {
		n = &lane{hands: hands, conn: conn}
		l.all[conn] = n
	}
	n.streams++
	return n
}

func (l *lanes) leave(n *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.streams--; n.streams == 0 {
		delete(l.all, n.conn)
	}
}
