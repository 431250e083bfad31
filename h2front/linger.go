package h2front

import (
	"io"
	"time"
)

// Linger serves what is left of a connection when its server has gone: it returns at once
// if that is nothing, and else when the last stream that was taken is over, or the
// client has left. It answers the client's PING and SETTINGS frames. The caller then
// closes the connection.
func (c *Conn) Linger() {
	if !c.lingers.Load() {
		return
	}
	in := &c.in
	in.mu.Lock() // the server's last read has returned
	defer in.mu.Unlock()
	_ = c.conn.SetReadDeadline(time.Time{})
	in.ready = nil
	var skipped [512]byte
	for c.hasStreams() && in.err == nil {
		switch {
		case in.left > 0:
			n := c.receive(skipped[:min(len(skipped), in.left)])
			settings := in.settings
			c.payload(skipped[:n])
			if settings && !in.settings {
				c.acknowledged()
				c.answer(appendHead(nil, 0, frameSettings, flagAck, 0))
			}
		case c.fill(headSize) && c.fill(in.needLingering()):
			c.frameLingering(parseHead(in.buf[:]))
		}
	}
	c.out.mu.Lock()
	c.release(true) // the end of the last stream
	c.fail()
}

// hasStreams reports whether streams that were taken are open.
func (c *Conn) hasStreams() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.taken) > 0
}

// needLingering is need, for Linger.
func (in *input) needLingering() int {
	if h := parseHead(in.buf[:]); h.kind == framePing && h.length == pingSize {
		return headSize + pingSize
	}
	return in.need()
}

// frameLingering is frameIn, for Linger.
func (c *Conn) frameLingering(h head) {
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

// maxFrame is the longest frame that Linger reads: what servers allow.
const maxFrame = 1 << 20

// answer writes a frame. A client that does not read what it asks for is not read from.
func (c *Conn) answer(frame []byte) {
	c.out.mu.Lock()
	_ = c.send(frame) // an error ends the streams
	c.release(true)
}
