package stream

import (
	"net"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Server writes the streams of one broker. Its methods are safe for concurrent
// use.
type Server struct {
	broker *broker.Broker
	began  time.Time
	wheel  *wheel
	crew   *crew // writes detached streams
	hands  hands // write attached ones
	lanes  lanes
	closed sync.Once
}

// NewServer serves streams from a broker, until Close.
func NewServer(b *broker.Broker) *Server {
	began := time.Now()
	return &Server{broker: b, began: began, wheel: newWheel(began), crew: newCrew(), hands: newHands(), lanes: lanes{all: make(map[net.Conn]*lane)}}
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
		s.crew.close()
		close(s.hands.stop)
		s.wheel.close()
	})
}

// instant is a moment, as the time since a Server began.
type instant = time.Duration

// never is later than every other moment.
const never instant = 1<<63 - 1

func (s *Server) now() instant { return time.Since(s.began) }
