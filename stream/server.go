package stream

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Server writes the streams of one broker. Its methods are safe for concurrent
// use.
type Server struct {
	broker  *broker.Broker
	began   time.Time
	timers  *timerWheel
	writers *writers  // write detached streams
	workers *workers  // write attached streams
	h2conns h2conns   // connections of attached streams over HTTP/2
	ghosts  ghosts    // bounds how long a client that has vanished goes unnoticed
	batches sync.Pool // of *broker.Batch, which attached streams borrow to write
	figures []figures // there is one for each core
	turn    atomic.Uint32
	clock   clock

	behavior atomic.Pointer[behavior] // of the newest session

	closed sync.Once
}

// NewServer starts a Server for the streams of b. It runs goroutines until Close
// is called. The broker remains the caller's, to be closed after the Server.
func NewServer(b *broker.Broker) *Server {
	began := time.Now()
	each := make([]figures, runtime.GOMAXPROCS(0))
	return &Server{
		broker: b, began: began,
		timers: newTimerWheel(began), writers: newWriters(each), workers: newWorkers(),
		h2conns: h2conns{all: make(map[net.Conn]*h2conn)},
		ghosts:  defaultGhosts(),
		figures: each,
		batches: sync.Pool{New: func() any { return new(broker.Batch) }},
	}
}

// Close stops the server. It ends the detached streams: each is sent what its
// connection takes without waiting, and no more. Attached streams are not ended:
// the caller must have closed their sessions, or the broker. Close does not wait
// for them.
//
// Close may be called again and concurrently; every call returns when the
// detached streams have ended. Options.OnEnd of a detached stream must not call
// it: Close waits for OnEnd.
func (s *Server) Close() {
	s.closed.Do(func() {
		s.writers.close()
		s.workers.close()
		s.timers.close()
	})
}

// instant is a moment, as the time since a Server was made.
type instant = time.Duration

// never is later than every other instant.
const never instant = 1<<63 - 1

func (s *Server) now() instant { return time.Since(s.began) }
