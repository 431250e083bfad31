package stream

import (
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/internal/histogram"
)

// Stats are the figures of the streams of a Server, since it was made.
type Stats struct {
	// Bytes is how many bytes of streams were written: of events, and of what the hub
	// has to say besides.
	Bytes uint64
	// Lag is how long after its publishing an event was written, of the newest event of
	// each write. Events that were there before a stream began are left out.
	Lag histogram.Counts
}

// Stats returns the figures of now.
func (s *Server) Stats() (total Stats) {
	for i := range s.figures {
		f := &s.figures[i]
		total.Bytes += f.bytes.Load()
		total.Lag.Add(f.lag.Counts())
	}
	return total
}

// figures are what some streams have counted. Each writer has its own, so that the cores
// do not wait for each other: a write costs three additions.
type figures struct {
	bytes atomic.Uint64
	lag   histogram.Durations
	_     [64]byte // so that no two are in one cache line
}

// figuresOf returns the figures for the next stream, by turns.
func (s *Server) figuresOf() *figures {
	return &s.figures[int(s.turn.Add(1))%len(s.figures)]
}

// clock tells the time of day of instants. It is set anew each second: a clock that was
// wrong when the server began may have been set right.
type clock struct {
	began atomic.Int64 // in microseconds since the Unix epoch
	set   atomic.Int64 // when, as an instant
}

// micros is the time of day of an instant, in microseconds since the Unix epoch.
func (c *clock) micros(s *Server, now instant) int64 {
	if set := instant(c.set.Load()); set == 0 || now-set >= time.Second {
		now = s.now()
		c.began.Store(time.Now().UnixMicro() - now.Microseconds())
		c.set.Store(int64(max(now, 1)))
	}
	return c.began.Load() + now.Microseconds()
}

// wroteEvents counts the delay of the newest event of a write, which ended now.
func (s *Session) wroteEvents(now instant) {
	published := int64(s.state.last.Ms)
	if published < s.state.began {
		return // it was there before the stream, or has no id
	}
	at := s.server.clock.micros(s.server, now)
	s.figures.lag.Observe(time.Duration(at-published*1000) * time.Microsecond)
}
