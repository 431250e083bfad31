package stream

import (
	"net"
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
}

// NewServer serves streams from a broker, until Close.
func NewServer(b *broker.Broker) *Server {
	began := time.Now()
	return &Server{broker: b, began: began, wheel: newWheel(began), crew: newCrew(), hands: newHands(), lanes: lanes{all: make(map[net.Conn]*lane)}}
}

// Close ends the detached streams: each is given what it can take without
// waiting, and no more. Attached ones are ended by whoever serves them; their
// sessions must have been closed, or the broker.
func (s *Server) Close() {
	s.crew.close()
	close(s.hands.stop)
	s.wheel.close()
}

// instant is a moment, as the time since a Server began.
type instant = time.Duration

// never is later than every other moment.
const never instant = 1<<63 - 1

func (s *Server) now() instant { return time.Since(s.began) }
