package h2front

import (
	"encoding/binary"
	"sync"
	"time"
)

// output is what the client is sent. Whoever writes holds mu. A Stream never waits for it: whoever
// holds it writes what the Stream leaves in Conn.control, before the server's next frame.
type output struct {
	mu sync.Mutex // guards what follows

	held   [headSize + markerSize]byte
	have   int   // bytes of a frame in held, on which was not decided yet
	need   int   // bytes that decide on it, once the header is known
	left   int   // bytes of the server's current frame that pass
	block  bool  // a header block has begun and not ended
	drops  bool  // the current frame does not pass
	pushed bool  // the server has opened a stream: the next one would not know of its id
	failed error // what every further write returns
	room   room

	answers *answers // nil if none is due
}

// unfinished reports whether a frame of the server, or a header block, is not written to
// its end: nothing may come in between. The caller holds o.mu.
func (o *output) unfinished() bool { return o.left > 0 && !o.drops || o.block }

// Write implements net.Conn, for the server.
func (c *Conn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	err := c.writeFrames(p)
	c.release(true)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFrames writes what passes of the frames of the server. The caller holds out.mu.
func (c *Conn) writeFrames(p []byte) error {
	o := &c.out
	for len(p) > 0 {
		if o.drops && o.left > 0 {
			n := min(o.left, len(p))
			o.left -= n
			p = p[n:]
			continue
		}
		if o.have == 0 {
			pass, drop := c.scan(p)
			if err := c.send(p[:pass]); err != nil {
				return err
			}
			p = p[pass+drop:]
			if drop > 0 || len(p) == 0 {
				continue
			}
			o.need = headSize
		}
		// A frame of which not enough is known.
		n := copy(o.held[o.have:o.need], p)
		p = p[n:]
		if o.have += n; o.have < o.need {
			continue
		}
		h := parseHead(o.held[:])
		if need := c.decides(h); o.need == headSize && need > headSize {
			o.need = need
			continue
		}
		held := o.held[:o.have]
		o.have, o.left = 0, h.length-(len(held)-headSize)
		if o.drops = !c.frameOut(h, held[headSize:]); !o.drops {
			if err := c.send(held); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan returns how many bytes of p pass as they are: all, or those before a frame that is
// incomplete, or is dropped and has drop bytes. The caller holds out.mu.
func (c *Conn) scan(p []byte) (pass, drop int) {
	o := &c.out
	for i := 0; i < len(p); {
		if o.left > 0 {
			n := min(o.left, len(p)-i)
			o.left -= n
			i += n
			continue
		}
		if len(p)-i < headSize {
			return i, 0
		}
		h := parseHead(p[i:])
		need := c.decides(h)
		if len(p)-i < need || i > 0 && h.kind == frameData && c.mustWait(h) {
			return i, 0 // what is before it does not wait
		}
		o.drops = !c.frameOut(h, p[i+headSize:i+need])
		o.left = h.length - (need - headSize)
		if o.drops {
			return i, need
		}
		i += need
	}
	return len(p), 0
}

// decides returns how many bytes of a frame of the server are needed to decide on it.
func (c *Conn) decides(h head) int {
	switch {
	case h.kind == frameGoAway && h.length >= goAwaySize:
		return headSize + goAwaySize
	case h.kind == frameWindowUpdate && h.length == windowSize:
		return headSize + windowSize
	case h.kind == frameData && h.length == markerSize:
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.awaited) > 0 {
			return headSize + markerSize
		}
	}
	return headSize
}

// frameOut takes note of a frame of the server, and reports whether it passes. The caller
// holds out.mu.
func (c *Conn) frameOut(h head, payload []byte) bool {
	if c.out.answers != nil && c.out.answers.has(h) {
		c.answered()
		return false
	}
	switch h.kind {
	case frameData:
		return c.dataOut(h, payload)
	case frameHeaders:
		c.out.block = !h.has(flagEndHeaders)
		if h.has(flagEndStream) {
			c.reset(h.id)
		}
	case framePushPromise, frameContinuation:
		c.out.block = !h.has(flagEndHeaders)
		c.out.pushed = c.out.pushed || h.kind == framePushPromise
	case frameReset:
		c.reset(h.id)
	case frameSettings:
		if h.has(flagAck) {
			c.count(&c.unsaid, -1)
			c.acknowledged()
		} else {
			c.count(&c.unheard, 1)
		}
	case framePing:
		if h.has(flagAck) {
			c.count(&c.unsaid, -1)
		}
	case frameWindowUpdate:
		return h.id != 0 || h.length != windowSize || c.allows(int64(binary.BigEndian.Uint32(payload)&maxWindow))
	case frameGoAway:
		return c.goAwayOut(payload)
	}
	return true
}

// goAwayOut does the work of frameOut for a GOAWAY frame.
func (c *Conn) goAwayOut(payload []byte) bool {
	if len(payload) < goAwaySize {
		return true
	}
	last, code := binary.BigEndian.Uint32(payload)&maxWindow, binary.BigEndian.Uint32(payload[4:])
	c.mu.Lock()
	c.leaving, c.doomed = code == codeNo, code != codeNo
	if c.doomed && c.alone.Load() { // the server that has gone has still said so
		_ = c.conn.SetReadDeadline(past)
	}
	c.watch()
	answers := c.out.answers
	before := answers != nil && last < answers.id // it knows of no stream, and ignores the second request
	if before {
		c.control = appendGoAway(c.control, answers.id, code)
	}
	c.mu.Unlock()
	if before {
		answers.resets--
		c.answered()
	}
	return !before
}

// dataOut does the work of frameOut for a DATA frame.
func (c *Conn) dataOut(h head, payload []byte) bool {
	c.mu.Lock()
	if s := c.take(payload); s != nil {
		c.marked(s, h) // unlocks c.mu
		return false
	}
	if s := c.stream(h.id); s != nil && h.length == 0 && h.has(flagEndStream) {
		c.goOn(s) // unlocks c.mu
		return false
	}
	size := int64(h.length)
	// The server does not know of what streams that were taken have sent.
	for c.exceeds(size) {
		if c.room == nil {
			c.room = sync.NewCond(&c.mu)
		}
		c.room.Wait()
	}
	c.window -= size
	if p := c.known[h.id]; p != nil {
		p.window -= size
	}
	c.mu.Unlock()
	if h.has(flagEndStream) {
		c.reset(h.id)
	}
	return true
}

// marked takes a stream of which the marker was seen. The client is not sent it, so that
// these bytes are still allowed. It unlocks c.mu.
func (c *Conn) marked(s *Stream, h head) {
	c.debt -= int64(h.length)
	s.stopWaiting()
	if c.known != nil && c.known[h.id] == nil { // the client has reset it meanwhile
		s.ended = true
		c.watch()
		c.mu.Unlock()
		s.hangup()
		return
	}
	s.id = h.id
	c.taken = append(c.taken, s)
	if h.has(flagEndStream) { // the handler did not flush
		c.goOn(s)
		return
	}
	c.mu.Unlock()
}

// goOn has a taken stream go on that the server has ended. It unlocks c.mu.
func (c *Conn) goOn(s *Stream) {
	p := c.known[s.id]
	delete(c.known, s.id)
	switch {
	case s.over.due:
		s.finish(s.over)
		c.remove(s)
		c.mu.Unlock()
	case p == nil || !p.done || c.initial+p.window > maxWindow:
		// It is not known what is allowed, or the server goes on with the request, or has
		// ended it before it read of a window that is too large.
		code := uint32(codeInternal)
		if p != nil && p.done {
			code = codeFlowControl
		}
		s.finish(ending{code: code})
		c.remove(s)
		c.mu.Unlock()
		s.hangup()
	default:
		s.window = p.window
		s.open = true
		c.mu.Unlock()
		s.writable()
	}
}

// exceeds reports whether the client does not allow so much, though the server believes it
// does. The caller holds c.mu.
func (c *Conn) exceeds(size int64) bool { return c.window < size && c.debt > 0 && !c.broken }

// mustWait is exceeds for a frame.
func (c *Conn) mustWait(h head) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exceeds(int64(h.length))
}

// acknowledged has the client know that its settings were read.
func (c *Conn) acknowledged() {
	c.mu.Lock()
	var woken []*Stream
	if c.raised > 0 {
		c.initial, c.raised = c.raised, 0
		woken = c.starved()
	}
	c.mu.Unlock()
	tell(woken)
}

// send writes p. The caller holds out.mu.
func (c *Conn) send(p []byte) error {
	if len(p) == 0 || c.out.failed != nil {
		return c.out.failed
	}
	c.out.room.wrote(len(p))
	if _, err := c.conn.Write(p); err != nil {
		c.out.failed = err
		c.fail()
	}
	return c.out.failed
}

// release gives up out.mu, after it has written the frames of the Conn's own that wait,
// and tells the streams that wait for that. If wait is false it does not block: what the
// connection may not take at once is left to a goroutine.
func (c *Conn) release(wait bool) {
	for {
		unfinished := c.out.unfinished()
		var woken []*Stream
		if !unfinished {
			c.mu.Lock()
			control, queued := c.control, c.queued
			c.control, c.queued = nil, nil
			c.mu.Unlock()
			if len(control) > 0 && !wait && !c.hasRoom(len(control)) {
				go c.finish(control, queued)
				return
			}
			_ = c.send(control) // an error has been told to all streams
			woken = c.written(queued)
		}
		c.mu.Lock()
		if c.late != nil && len(c.control) == 0 {
			c.late.Stop()
			c.late = nil
		}
		c.mu.Unlock()
		c.out.mu.Unlock()
		tell(woken)
		// What came to be written after it was looked for found the lock taken.
		if unfinished || !c.owes() || !c.out.mu.TryLock() {
			return
		}
	}
}

// written has the data of streams be written, and returns those that wait for it.
func (c *Conn) written(queued []*Stream) (woken []*Stream) {
	if len(queued) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range queued {
		s.queued = false
		if s.waits {
			s.waits = false
			woken = append(woken, s)
		}
	}
	return woken
}

// owes reports whether frames wait for the lock.
func (c *Conn) owes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.control) > 0
}

// finish writes what did not fit at once, with data of some streams. It has taken over out.mu.
func (c *Conn) finish(p []byte, queued []*Stream) {
	c.mu.Lock()
	limit := c.limit
	c.mu.Unlock()
	stalled := time.AfterFunc(limit, func() { _ = c.Abort() })
	defer stalled.Stop()
	_ = c.send(p) // an error has been told to all streams
	woken := c.written(queued)
	c.release(true)
	tell(woken)
}

// kick has the frames of the Conn's own written: now, or by who writes at the moment. The
// connection ends if that does not happen in time.
func (c *Conn) kick() {
	if c.out.mu.TryLock() {
		c.release(false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mustBeWritten()
}

// mustBeWritten ends the connection if the frames that wait are not written in time. The caller
// holds c.mu.
func (c *Conn) mustBeWritten() {
	if len(c.control) > 0 && c.late == nil && !c.broken {
		c.late = time.AfterFunc(c.limit, func() { _ = c.Abort() })
	}
}
