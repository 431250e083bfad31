package stream

import (
	"context"
	"net/http"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// Serve writes the stream to w until it ends, and returns then. It is called
// once, and is the only one that writes: w needs no lock. The error is not nil
// only if nothing was written.
//
// The stream begins with a comment and an event "evstream.open", so that every
// client holds a cursor from the start. Quiet times are filled with heartbeats.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request) error {
	c := newConn(w, r, s.manner.writeTimeout)
	if err := s.claim(c.abort); err != nil {
		return err
	}
	c.begin()
	reason := s.attend(r.Context(), c)
	s.end(reason)
	c.relax() // a deadline would fall on the connection's next request
	return nil
}

// attend writes the stream as it comes, on the goroutine of its handler.
func (s *Session) attend(ctx context.Context, c *conn) Reason {
	woken := make(waiter, 1)
	s.waiter.Store(&woken)
	for {
		if reason := s.write(ctx, c); reason != "" {
			return reason
		}
		s.server.wheel.wake(&s.tooth, s.due())
		select {
		case <-ctx.Done():
			return ReasonClient
		case <-woken:
		}
	}
}

// batches has the memory that sessions borrow while they write.
var batches = sync.Pool{New: func() any { return new(broker.Batch) }}

// write writes all that is new, with one flush for each part of it that fits
// in a batch. No reason means that the stream goes on.
func (s *Session) write(ctx context.Context, c *conn) Reason {
	batch := batches.Get().(*broker.Batch)
	defer batches.Put(batch)
	for {
		frames, todo := s.next(batch, s.server.now())
		switch {
		case todo == wait:
			return ""
		case todo == part:
			return s.script.parted
		}
		reason := c.write(frames, batch.Bytes)
		switch {
		case reason == "":
			s.written(len(frames)+len(batch.Bytes), s.server.now())
		case s.script.parted != "":
			return s.script.parted // nobody is left to act on it
		default:
			return reason
		}
		if ctx.Err() != nil {
			return ReasonClient
		}
	}
}
