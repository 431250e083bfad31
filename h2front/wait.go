package h2front

import (
	"encoding/binary"
	"io"
	"time"
)

const (
	// maxPings bounds how many PING frames are answered without a server, which has bounds
	// of its own.
	maxPings = 100
	// maxFrame is the longest frame that is read without a server: what servers allow.
	maxFrame = 1 << 20
	// lingers is how long a client may take to leave that was told that nothing more comes: what
	// servers allow.
	lingers = time.Second
)

// wait serves a connection that has no server. It reports whether the client wants one again;
// otherwise it returns at once if there is nothing to serve, or when the last stream that was
// taken is over and no other is to come, or the client has left.
func (c *Conn) wait() (again bool) {
	if !c.alone.Load() {
		return false
	}
	in := &c.in
	in.mu.Lock() // the server's last read has returned
	defer in.mu.Unlock()
	_ = c.conn.SetReadDeadline(time.Time{})
	in.ready = nil
	for pings := 0; in.err == nil && c.waits(); {
		switch {
		case in.left > 0:
			c.skip()
		case c.fill(headSize) && c.fill(in.needAlone()):
			h := parseHead(in.buf[:])
			if h.kind == framePing {
				pings++
			}
			if (pings > maxPings || !c.simple(h)) && c.attach() {
				return true
			}
			c.frameAlone(h)
		}
	}
	c.mu.Lock()
	limit := c.limit
	c.mu.Unlock()
	stalled := time.AfterFunc(limit, func() { _ = c.Abort() }) // TLS may write while it reads, too
	defer stalled.Stop()
	c.out.mu.Lock()
	c.release(true) // the end of the last stream
	c.fail()
	c.linger()
	return false
}

// linger reads what the client still sends, until it has left: a connection that is closed with
// unread input is reset, and the client may lose what it was sent last. The caller holds in.mu.
func (c *Conn) linger() {
	if c.in.err != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingers))
	memory := pieces.Get().(*piece)
	defer pieces.Put(memory)
	for err := error(nil); err == nil; {
		_, err = c.conn.Read(memory[:])
	}
}

// waits reports whether there is something to wait for.
func (c *Conn) waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over && !c.doomed && (!c.leaving || len(c.taken) > 0)
}

// skip reads some of the payload of a frame.
func (c *Conn) skip() {
	in := &c.in
	memory := pieces.Get().(*piece)
	defer pieces.Put(memory)
	n := c.receive(memory[:min(len(memory), in.left)])
	settings := in.settings
	c.payload(memory[:n])
	if settings && !in.settings {
		c.acknowledged()
		c.answer(appendHead(nil, 0, frameSettings, flagAck, 0))
	}
}

// needAlone is need, without a server.
func (in *input) needAlone() int {
	h := parseHead(in.buf[:])
	if h.kind == framePing && h.length == pingSize || h.kind == framePriority && h.length == prioritySize {
		return headSize + h.length
	}
	return in.need()
}

// simple reports whether a frame can be served without a server: it is right, asks for little,
// and a server would end nothing because of it. The caller holds in.mu.
func (c *Conn) simple(h head) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := h.id%2 == 1 && h.id <= c.highest // was opened once
	switch h.kind {
	case framePing:
		return h.length == pingSize && h.id == 0
	case frameReset:
		return h.length == resetSize && known
	case framePriority:
		if h.length != prioritySize {
			return false
		}
		on := binary.BigEndian.Uint32(c.in.buf[headSize:]) & maxWindow
		return known && on != h.id
	case frameWindowUpdate:
		if h.length != windowSize {
			return false
		}
		more := int64(binary.BigEndian.Uint32(c.in.buf[headSize:]) & maxWindow)
		return more > 0 && (known || h.id == 0 && c.window+more <= maxWindow)
	}
	return h.kind > frameContinuation && h.kind != framePriorityUpdate && h.length <= maxFrame
}

// frameAlone takes over a frame. Where the client was sent a GOAWAY, no more than that is done
// for it.
func (c *Conn) frameAlone(h head) {
	in := &c.in
	c.frameIn(h)
	in.ready = nil
	switch {
	case h.kind == framePing && h.length == pingSize && !h.has(flagAck):
		pong := appendHead(nil, pingSize, framePing, flagAck, 0)
		c.answer(append(pong, in.buf[headSize:headSize+pingSize]...))
	case h.kind == frameSettings && h.length == 0 && !h.has(flagAck):
		c.answer(appendHead(nil, 0, frameSettings, flagAck, 0))
	case h.length > maxFrame:
		in.err = io.ErrUnexpectedEOF // the client does not keep to what it was told
	}
}

// answer writes a frame. A client that does not read what it asks for is not read from.
func (c *Conn) answer(frame []byte) {
	c.out.mu.Lock()
	_ = c.send(frame) // an error ends the streams
	c.release(true)
}
