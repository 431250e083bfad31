package h2front

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"sync"
	"time"
)

// markerSize is the length of a marker.
const markerSize = 24

// maxPiece is the most that one Write takes, so that it is one record of TLS. It is also
// less than the smallest SETTINGS_MAX_FRAME_SIZE that a client can have.
const maxPiece = 16<<10 - headSize

// ErrFull is the error of a Stream that takes no more bytes for now.
var ErrFull = errors.New("the client takes no more for now")

// Watcher is told what becomes of a Stream. Its methods are safe for concurrent use and
// do not block.
type Watcher interface {
	OnWritable() // Write has returned ErrFull, and takes bytes again
	OnHangup()   // the stream is over: it was reset, or its connection has ended; maybe after Stream.End
}

// Stream is a stream that is taken from its server, or is about to be.
type Stream struct {
	conn   *Conn
	marker [markerSize]byte

	// Guarded by Conn.mu.
	id      uint32 // 0 until the marker was seen
	open    bool   // the server has ended it: it is written here
	window  int64  // what it may send, beyond Conn.initial
	ended   bool   // nothing is written any more
	over    ending // End was called before the server has ended it
	hungry  bool   // waits for a window
	queued  bool   // is in Conn.queued
	waits   bool   // for what is queued to be written
	overdue *time.Timer

	watch   sync.Mutex // guards what follows
	watcher Watcher    // nil until Watch
	missed  bool       // OnHangup was due before Watch
}

// Take returns a Stream for an answer that has not begun, or nil if none can be taken.
// The handler must write nothing but the answer's first bytes, of which there are at most
// 8 KiB, flush them, write Marker, flush it and return. If it cannot, or if a flush fails, it
// must call End: only the server knows then that the stream is over. A stream whose marker is
// not seen within limit is over; afterwards limit is how long a write may be stalled before the
// connection is closed.
func (c *Conn) Take(limit time.Duration) *Stream {
	s := &Stream{conn: c}
	// A comment of an event stream: if the server were to change or cut the frame, the
	// client would ignore it.
	var random [16]byte
	_, _ = rand.Read(random[:]) // does not fail: it ends the process instead
	s.marker[0], s.marker[markerSize-1] = ':', '\n'
	base64.RawURLEncoding.Encode(s.marker[1:], random[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken || c.over || c.known == nil || len(c.taken)+len(c.awaited) >= MaxTaken ||
		min(c.initial, c.window) < minWindow || c.most < leastMost {
		return nil
	}
	c.limit = max(c.limit, limit)
	c.awaited = append(c.awaited, s)
	s.overdue = time.AfterFunc(limit, s.expire)
	c.watch()
	return s
}

// Marker returns what the handler must write, and flush, at last.
func (s *Stream) Marker() []byte { return s.marker[:] }

// take returns the Stream that marker is of, or nil. The caller holds c.mu.
func (c *Conn) take(marker []byte) *Stream {
	for i, s := range c.awaited {
		if string(marker) == string(s.marker[:]) {
			last := len(c.awaited) - 1
			c.awaited[i], c.awaited[last] = c.awaited[last], nil
			c.awaited = c.awaited[:last]
			return s
		}
	}
	return nil
}

// stopWaiting ends the wait for the marker. The caller holds Conn.mu.
func (s *Stream) stopWaiting() {
	if s.overdue != nil {
		s.overdue.Stop()
		s.overdue = nil
	}
}

// expire ends a stream whose marker was not seen in time.
func (s *Stream) expire() {
	c := s.conn
	c.mu.Lock()
	if s.overdue == nil || c.take(s.marker[:]) == nil {
		c.mu.Unlock()
		return
	}
	s.overdue, s.ended = nil, true
	c.watch()
	c.mu.Unlock()
	s.hangup()
}

// Watch has w told what becomes of the stream from now on. It must be called once.
func (s *Stream) Watch(w Watcher) {
	s.watch.Lock()
	s.watcher = w
	missed := s.missed
	s.watch.Unlock()
	if missed {
		w.OnHangup()
	}
}

func (s *Stream) hangup() {
	s.watch.Lock()
	w := s.watcher
	s.missed = w == nil
	s.watch.Unlock()
	if w != nil {
		w.OnHangup()
	}
}

func (s *Stream) writable() {
	s.watch.Lock()
	w := s.watcher
	s.watch.Unlock()
	if w != nil {
		w.OnWritable()
	}
}

// pieces are memory of frames that are being written.
var pieces = sync.Pool{New: func() any { return new(piece) }}

type piece [headSize + maxPiece]byte

// Write writes as much of frames and events, in this order, as the client takes at once,
// and at most 16 KiB, and returns how much that is: it does not block. While the server, or
// another Stream, writes, it leaves that to them: a stream of which the client takes little
// does not lose its turn to those that have much to write. After ErrFull
// Watcher.OnWritable is called when the client takes more. Any other error means that
// the stream is over. If last is set, and all is taken, the stream is ended in good order.
// Only one goroutine at a time may call it.
func (s *Stream) Write(frames, events []byte, last bool) (int, error) {
	c := s.conn
	c.mu.Lock()
	total := len(frames) + len(events)
	n := int(max(0, min(int64(total), c.initial+s.window, c.window, maxPiece)))
	switch {
	case s.ended:
		c.mu.Unlock()
		return 0, net.ErrClosed
	case !s.open || s.queued || n == 0 && total > 0:
		s.waits = s.queued
		s.hungry = s.open && !s.queued
		c.mu.Unlock()
		return 0, ErrFull
	}
	s.window -= int64(n)
	c.window -= int64(n)
	c.debt += int64(n)
	flags := byte(0)
	if last && n == total {
		flags = flagEndStream
		s.ended = true
	}
	frame := func(b []byte) []byte {
		b = appendHead(b, n, frameData, flags, s.id)
		b = append(b, frames[:min(n, len(frames))]...)
		return append(b, events[:n-min(n, len(frames))]...)
	}
	locked := c.out.mu.TryLock()
	queue := !locked || c.out.unfinished()
	if queue {
		c.control = frame(c.control)
		c.queued = append(c.queued, s)
		s.queued = true
		c.mustBeWritten()
	}
	if s.ended {
		c.remove(s)
	}
	c.mu.Unlock()
	if queue {
		if locked {
			c.release(false)
		}
		return n, nil
	}
	memory := pieces.Get().(*piece)
	b := frame(memory[:0])
	if !c.hasRoom(len(b)) {
		go func() {
			c.finish(b, nil)
			pieces.Put(memory)
		}()
		return n, nil
	}
	err := c.send(b)
	pieces.Put(memory)
	c.release(false)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// End ends the stream, if it is not over yet: in good order, or else by a reset, which a
// client does not take for the end of the answer. It does not block. Nothing must be
// written after it.
func (s *Stream) End(good bool) { s.end(good, codeInternal) }

func (s *Stream) end(good bool, code uint32) {
	c := s.conn
	c.mu.Lock()
	switch {
	case s.ended || s.over.due:
		c.mu.Unlock()
		return
	case !s.open:
		s.over = ending{due: true, good: good, code: code} // the server may still end it
		c.mu.Unlock()
		return
	}
	s.finish(ending{good: good, code: code})
	c.remove(s)
	c.mu.Unlock()
	c.kick()
}

// ending is how a stream is to end.
type ending struct {
	due, good bool
	code      uint32 // of a reset
}

// finish has the end of the stream written. The caller holds Conn.mu.
func (s *Stream) finish(e ending) {
	s.ended = true
	if e.good {
		s.conn.control = appendHead(s.conn.control, 0, frameData, flagEndStream, s.id)
	} else {
		s.conn.control = appendReset(s.conn.control, s.id, e.code)
	}
}
