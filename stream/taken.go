package stream

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
)

// Taken is one of the streams of a connection, such as one of HTTP/3, that was taken from
// the HTTP server: what is written to it is the rest of the body. One goroutine at a time
// writes. End is called once; where it does not end in good order it may be while Write
// blocks.
type Taken interface {
	// AppendHead appends what stands before n bytes of the body.
	AppendHead(dst []byte, n int) []byte
	// TryWrite queues all of p to be sent, which it copies, or nothing: it reports false
	// if the client does not allow so much now. It does not block. An error means that
	// the stream is broken.
	TryWrite(p []byte) (queued bool, err error)
	// Write blocks until p, and what was queued before, is sent, but for a packet.
	Write(p []byte) (int, error)
	// End ends the body: in good order, after what was queued, or else it throws away
	// what is not sent yet and resets the stream. Write fails then.
	End(good bool)
	// Context is canceled when the client has left, and may be when End was called.
	Context() context.Context
}

// Taker says how a stream is taken from an HTTP server. w is the server's own writer. It
// returns nil, and has done nothing, if that is not possible. Otherwise take takes it: the
// header was written by then, and a part of the body. take may fail if the client has left.
type Taker func(w http.ResponseWriter) (take func() (Taken, error))

// DetachStream is Detach for a stream of a connection that carries several, which taker
// takes from the server. It is possible on every system. If the answer is to have trailers
// the stream is not detached.
func (s *Session) DetachStream(w http.ResponseWriter, taker Taker) (detached bool, err error) {
	server := innermost(w)
	take := taker(server)
	if take == nil || hasTrailers(server.Header()) || !s.server.writers.admit() {
		return false, nil
	}
	adopted := false
	defer func() {
		if !adopted {
			s.server.writers.release()
		}
	}()
	if opened, err := s.writeOpening(newResponse(w)); !opened {
		return true, err
	}
	taken, err := take()
	if err != nil {
		s.end(ReasonClient)
		return true, nil
	}
	adopted = true
	s.server.writers.adopt(s, &takenConn{taken: taken, workers: s.server.workers, credit: maxQueued})
	return true, nil
}

// takenConn is a rawConn. What the client allows is queued, but no more than maxQueued of
// which it is not known that it was sent: the connection would keep what a client that is
// slow and allows much does not take. Then a worker writes, which blocks until all is sent.
type takenConn struct {
	taken   Taken
	workers *workers
	watcher watcher
	unwatch func() bool
	ended   bool // the last of the body was written
	resting bool // the bytes that are written are a rest, which stays as it is
	credit  int  // how much may still be queued

	// What the worker writes, and what has come of it.
	working atomic.Uint32 // noWork, working or worked
	pieces  [2][]byte
	wrote   int
	err     error
}

// maxQueued is how many bytes of a stream may be queued of which it is not known whether they
// were sent.
const maxQueued = 16 << 10

// The states of the worker of a takenConn.
const (
	noWork = iota
	working
	worked // the writer has not seen it yet
)

// frameBuffers are buffers in which a piece of the body is put together.
var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// discard implements rawConn.
func (c *takenConn) discard() { c.close(true) }

// watch implements rawConn.
func (c *takenConn) watch(w watcher) {
	c.watcher = w
	c.unwatch = context.AfterFunc(c.taken.Context(), w.onHangup)
}

// write implements rawConn. What ch has beside the body is stripped.
func (c *takenConn) write(ch *chunk) (int, error) {
	switch c.working.Load() {
	case working:
		return 0, errFull
	case worked:
		return c.workedOff(ch)
	}
	body := ch.body()
	if body <= c.credit {
		queued, err := c.queue(ch.pieces[1], ch.pieces[2])
		if err != nil {
			return 0, err
		}
		if queued {
			c.credit -= body
			c.wroteAll(ch)
			return body, nil
		}
	}
	if !c.resting {
		// The bytes may be in memory that the writer uses again: see Batch.Keep. So the
		// worker begins when they are a rest.
		c.resting = true
		c.watcher.onWritable()
		return 0, errFull
	}
	first := ch.pieces[1][:min(len(ch.pieces[1]), maxPiece)]
	c.pieces = [2][]byte{first, ch.pieces[2][:min(len(ch.pieces[2]), maxPiece-len(first))]}
	c.working.Store(working)
	c.workers.do(c)
	return 0, errFull
}

// queue queues a piece of the body.
func (c *takenConn) queue(first, second []byte) (bool, error) {
	if len(first)+len(second) == 0 {
		return true, nil // only the end of the body
	}
	frame := frameBuffers.Get().(*[]byte)
	defer frameBuffers.Put(frame)
	*frame = c.taken.AppendHead((*frame)[:0], len(first)+len(second))
	*frame = append(append(*frame, first...), second...)
	return c.taken.TryWrite(*frame)
}

// run implements task: it writes the pieces.
func (c *takenConn) run() {
	var head [16]byte
	_, err := c.taken.Write(c.taken.AppendHead(head[:0], len(c.pieces[0])+len(c.pieces[1])))
	for i := 0; i < len(c.pieces) && err == nil; i++ {
		if len(c.pieces[i]) > 0 {
			var n int
			n, err = c.taken.Write(c.pieces[i])
			c.wrote += n
		}
	}
	c.err, c.pieces = err, [2][]byte{}
	c.working.Store(worked)
	c.watcher.onWritable()
}

// workedOff returns what the worker has written of ch.
func (c *takenConn) workedOff(ch *chunk) (n int, err error) {
	n, c.wrote = c.wrote, 0
	err = c.err
	c.working.Store(noWork)
	c.credit = maxQueued
	if n == ch.body() {
		c.wroteAll(ch)
	}
	return n, err
}

// wroteAll notes that all of ch was written.
func (c *takenConn) wroteAll(ch *chunk) { c.resting, c.ended = false, ch.last }

// close implements rawConn: it ends the stream, and not the connection. One whose body has
// not ended is reset, so that its client does not take it for all that there is.
func (c *takenConn) close(hard bool) {
	if c.unwatch != nil {
		c.unwatch()
	}
	c.taken.End(c.ended && !hard)
}
