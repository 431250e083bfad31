package h2front

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// input is what the client sends.
type input struct {
	mu      sync.Mutex // guards what follows, held by whoever reads
	preface int        // how much of the preface is still to come
	buf     [headSize + pingSize]byte
	have    int    // bytes of the next frame in buf
	ready   []byte // part of buf that the server has still to read
	left    int    // bytes of the current frame that pass
	block   bool   // a header block has begun and not ended
	err     error  // what every further read returns

	headers bool            // the current frame has a part of a header block
	table   *table          // nil while there is no server, and once it cannot be followed
	kept    []byte          // without a server: the block that gives the table to the next one
	passed  time.Time       // when the server was told a frame last
	replay  []byte          // what a server is told that was not there from the beginning
	primes  <-chan struct{} // is closed when it has answered that
	told    []byte          // the settings of the client, each once

	settings bool // the current frame has settings
	setting  [settingSize]byte
	partly   int   // bytes of a setting
	window   int64 // the last initial window of the current frame; -1 if there is none
}

// Read implements net.Conn, for the server.
func (c *Conn) Read(p []byte) (int, error) {
	in := &c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(p) > 0 {
		switch {
		case c.alone.Load():
			return 0, io.EOF // the server is to go, or has gone
		case len(in.replay) > 0:
			n := copy(p, in.replay)
			in.replay = in.replay[n:]
			return n, nil
		case in.primes != nil:
			<-in.primes // what comes now must not come between
			in.primes, in.replay = nil, c.shutdown()
		case len(in.ready) > 0:
			n := copy(p, in.ready)
			in.ready = in.ready[n:]
			return n, nil
		case in.err != nil:
			return 0, in.err
		case in.preface > 0:
			n := c.receive(p[:min(len(p), in.preface)])
			in.preface -= n
			if n > 0 {
				return n, nil
			}
		case in.left > 0:
			n := c.receive(p[:min(len(p), in.left)])
			if c.payload(p[:n]); n > 0 {
				return n, nil
			}
		case c.fill(headSize) && c.fill(in.need()):
			if !c.alone.Load() { // otherwise it is left to who reads then
				c.frameIn(parseHead(in.buf[:]))
			}
		case in.err != nil: // the server reads what there is of the frame
			in.ready, in.have = in.buf[:in.have], 0
		}
	}
	return 0, nil
}

// need is how many bytes of the frame in buf are needed to decide on it.
func (in *input) need() int {
	if h := parseHead(in.buf[:]); h.kind == frameWindowUpdate && h.length == windowSize || h.kind == frameReset && h.length == resetSize {
		return headSize + h.length
	}
	return headSize
}

// fill reads until buf has n bytes, and reports whether it has.
func (c *Conn) fill(n int) bool {
	in := &c.in
	for in.have < n {
		got := c.receive(in.buf[in.have:n])
		in.have += got
		if got == 0 && (in.err != nil || c.alone.Load()) {
			return false
		}
	}
	return true
}

// receive reads from the client. It keeps the error for later, unless the read was
// interrupted.
func (c *Conn) receive(p []byte) int {
	in := &c.in
	if in.err != nil {
		return 0
	}
	n, err := c.conn.Read(p)
	c.out.room.stale()
	if err == nil {
		return n
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && (c.alone.Load() || c.interrupted()) {
		return n
	}
	in.err = err
	c.fail()
	return n
}

// payload looks at bytes of the current frame, which pass.
func (c *Conn) payload(p []byte) {
	in := &c.in
	in.left -= len(p)
	if in.headers && in.table != nil {
		in.table.payload(p)
	}
	if !in.settings {
		return
	}
	for len(p) > 0 {
		n := copy(in.setting[in.partly:], p)
		p = p[n:]
		if in.partly += n; in.partly < settingSize {
			continue
		}
		in.partly = 0
		value := binary.BigEndian.Uint32(in.setting[2:])
		in.note()
		if binary.BigEndian.Uint16(in.setting[:]) == settingInitialWindow && value <= maxWindow {
			in.window = int64(value)
		}
	}
	if in.left == 0 {
		c.settled()
	}
}

// settled takes over the settings that the client has sent. A window that shrinks does
// so at once; one that grows may be used when the client knows that it was read.
func (c *Conn) settled() {
	in := &c.in
	in.settings = false
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case in.window < 0:
	case in.window <= c.initial:
		c.initial, c.raised = in.window, 0
	default:
		c.raised = in.window
	}
}

// frameIn decides on the frame that begins in buf, and what the server reads of it.
func (c *Conn) frameIn(h head) {
	in := &c.in
	in.ready, in.left, in.have = in.buf[:in.have], h.length-(in.have-headSize), 0
	in.headers = h.kind == frameHeaders || h.kind == frameContinuation
	if in.headers && in.table != nil {
		in.table.frame(h)
	}
	switch {
	case in.block: // nothing else may come in between: the server ends the connection
		in.block = h.kind != frameContinuation || !h.has(flagEndHeaders)
	case h.kind == frameHeaders:
		in.block = !h.has(flagEndHeaders)
		c.opened(h)
	case h.kind == frameData:
		c.mu.Lock()
		c.credit -= int64(h.length)
		if p := c.known[h.id]; p != nil && h.has(flagEndStream) {
			p.done = true
		}
		c.mu.Unlock()
	case h.kind == frameReset && h.length == resetSize:
		c.reset(h.id)
	case h.kind == frameWindowUpdate && h.length == windowSize:
		c.windowIn(h.id, int64(binary.BigEndian.Uint32(in.buf[headSize:])&maxWindow))
	case h.kind == framePing && !h.has(flagAck):
		c.count(&c.unsaid, 1)
	case h.kind == frameSettings && h.has(flagAck):
		c.count(&c.unheard, -1)
	case h.kind == frameSettings:
		c.count(&c.unsaid, 1)
		if h.id == 0 && h.length > 0 {
			in.settings, in.partly, in.window = true, 0, -1
		}
	}
	if len(in.ready) > 0 {
		in.passed = time.Now()
	}
}

// count changes unsaid or unheard.
func (c *Conn) count(what *int, by int) {
	c.mu.Lock()
	*what += by
	c.mu.Unlock()
}

// windowIn takes over what the client allows beside, and decides what the server reads of
// it. An increment of 0 is an error, which the server answers.
func (c *Conn) windowIn(id uint32, more int64) {
	in := &c.in
	switch {
	case more == 0:
	case id != 0:
		if c.allowedStream(id, more) {
			in.ready = nil
		}
	default:
		switch rest := c.allowed(more); rest {
		case more: // as it is, with its reserved bit
		case 0:
			in.ready = nil
		default:
			binary.BigEndian.PutUint32(in.buf[headSize:], uint32(rest))
		}
	}
}

// opened notes a stream that the client opens, or the end of its request.
func (c *Conn) opened(h head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.known[h.id]; p != nil { // trailers
		p.done = p.done || h.has(flagEndStream)
		return
	}
	if h.id <= c.highest || h.id%2 == 0 {
		return
	}
	c.highest = h.id
	if c.known == nil {
		return
	}
	if len(c.known) >= maxKnown {
		c.known = nil
		return
	}
	c.known[h.id] = &peer{done: h.has(flagEndStream)}
}

// reset ends a stream that either side has reset, or that the server has ended for the client.
func (c *Conn) reset(id uint32) {
	c.mu.Lock()
	delete(c.known, id)
	s := c.stream(id)
	if s != nil {
		s.ended = true
		c.remove(s)
	}
	c.mu.Unlock()
	if s != nil {
		s.hangup()
	}
}

// allowed takes over what the client allows on the connection, and returns what of it is
// news to the server, which believes that it may still send what streams that were taken
// have sent.
func (c *Conn) allowed(more int64) int64 {
	c.mu.Lock()
	repaid := max(0, min(more, c.debt))
	if c.window+more > maxWindow {
		repaid = 0 // the server must see that it is too much
	}
	c.debt -= repaid
	c.window += more
	c.most = max(c.most, c.window)
	woken := c.starved()
	c.grown()
	c.mu.Unlock()
	tell(woken)
	return more - repaid
}

// allowedStream takes note of what the client allows on a stream, and reports whether
// that is one which the server does not have any more.
func (c *Conn) allowedStream(id uint32, more int64) bool {
	c.mu.Lock()
	if p := c.known[id]; p != nil {
		p.window += more
	}
	s := c.stream(id)
	if s == nil || !s.open {
		c.mu.Unlock()
		return false
	}
	var woken []*Stream
	tooMuch := c.initial+s.window+more > maxWindow
	if s.window += more; !tooMuch && s.hungry {
		s.hungry = false
		woken = append(woken, s)
	}
	c.mu.Unlock()
	if tooMuch {
		s.end(false, codeFlowControl)
		s.hangup()
	}
	tell(woken)
	return true
}

// starved returns the streams that wait for a window. The caller holds c.mu.
func (c *Conn) starved() (woken []*Stream) {
	for _, s := range c.taken {
		if s.hungry {
			s.hungry = false
			woken = append(woken, s)
		}
	}
	return woken
}

func tell(woken []*Stream) {
	for _, s := range woken {
		s.writable()
	}
}
