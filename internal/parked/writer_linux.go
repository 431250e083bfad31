package parked

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// maxStuck is how long a write to a socket with room may take, half of it at least, before
// its connection is broken. It takes long only if the system is short of memory.
const maxStuck = time.Second

// writer has what a write needs: memory for what becomes one record, and a timer that ends
// a write that is stuck. Setting a deadline for each write would cost more.
type writer struct {
	buf     [tcpsock.UnsentLimit / 2]byte
	stuck   *time.Timer
	every   time.Duration            // it runs off
	running atomic.Bool              // stuck is
	conn    atomic.Pointer[tls.Conn] // that is written to now
	writes  atomic.Uint64            // that were begun
	seen    uint64                   // writes, when the timer ran off
}

// newWriter returns a writer that breaks a connection to which a write takes longer than
// the limit.
func newWriter(limit time.Duration) *writer {
	w := &writer{every: limit / 2}
	w.stuck = time.AfterFunc(time.Hour, w.look)
	w.stuck.Stop()
	return w
}

// write writes as much of the pieces to conn as there is room for.
func (w *writer) write(conn *tls.Conn, pieces [][]byte, room int) (int, error) {
	buf := w.buf[:0]
	for _, p := range pieces {
		buf = append(buf, p[:min(len(p), room-len(buf))]...)
	}
	w.writes.Add(1)
	w.conn.Store(conn)
	w.guard()
	n, err := conn.Write(buf)
	w.conn.Store(nil)
	return n, err
}

// guard has the timer run.
func (w *writer) guard() {
	if !w.running.Load() && w.running.CompareAndSwap(false, true) {
		w.stuck.Reset(w.every)
	}
}

// look is called by the timer. It breaks the connection that has been written to since
// the last time.
func (w *writer) look() {
	writes, conn := w.writes.Load(), w.conn.Load()
	if conn != nil && writes == w.seen && w.writes.Load() == writes {
		_ = conn.SetWriteDeadline(time.Unix(1, 0))
	}
	idle := conn == nil && writes == w.seen
	w.seen = writes
	if !idle {
		w.stuck.Reset(w.every)
		return
	}
	w.running.Store(false)
	if w.conn.Load() != nil { // by a write that took the timer for running
		w.guard()
	}
}
