package h2front

import (
	"bytes"
	"encoding/binary"
	"time"
)

// maxSettings is the highest id of a setting that is kept: all that servers know.
const maxSettings = 16

// note keeps a setting.
func (in *input) note() {
	for b := in.told; len(b) > 0; b = b[settingSize:] {
		if bytes.Equal(b[:2], in.setting[:2]) {
			copy(b, in.setting[:])
			return
		}
	}
	if id := binary.BigEndian.Uint16(in.setting[:]); id <= maxSettings {
		in.told = append(in.told, in.setting[:]...)
	}
}

// keep has the table be kept for the next server, and reports whether that is possible.
func (in *input) keep() bool {
	block, ok := in.table.block()
	in.table, in.kept = nil, block
	return ok
}

// attach has a new server come to a connection that has none, unless it is about to end. The
// server is told what the client has said to the one before, and two requests of the last
// stream that was opened, both malformed: the first has the table, and with the second, which
// is empty, the server knows that all streams up to that one were used. It answers each
// with a reset (RFC 9113, section 8.1.1). The caller holds in.mu.
func (c *Conn) attach() bool {
	in := &c.in
	c.out.mu.Lock() // nobody is to write in between
	defer c.release(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || c.over || c.broken {
		return false
	}
	b := append([]byte(preface), appendHead(nil, len(in.told), frameSettings, 0, 0)...)
	b = append(b, in.told...)
	// The server must not take what is sent to the client for less than it is.
	c.debt = max(0, defaultWindow-c.window)
	if more := c.window - defaultWindow; more > 0 {
		b = appendWindow(b, 0, more)
	}
	b = appendHead(b, 0, frameSettings, flagAck, 0)
	in.table = newTable()
	resets := 1
	if len(in.kept) > 0 {
		resets++
		h := head{length: len(in.kept), kind: frameHeaders, flags: flagEndHeaders}
		in.table.frame(h)
		in.table.payload(in.kept)
		b = appendHead(b, h.length, frameHeaders, flagEndHeaders|flagEndStream, c.highest)
		b = append(b, in.kept...)
	}
	b = appendHead(b, 0, frameHeaders, flagEndHeaders|flagEndStream, c.highest)
	c.primed = make(chan struct{})
	in.kept, in.replay, in.primes = nil, b, c.primed
	c.out.answers = &answers{settings: true, ack: true, resets: resets, id: c.highest}
	if c.excess = c.credit - defaultWindow; c.excess < 0 {
		c.control = appendWindow(c.control, 0, -c.excess)
		c.credit, c.excess = defaultWindow, 0
	}
	if c.returns++; time.Since(c.parkedAt) >= c.options.Rest {
		c.returns = 0
	}
	c.known = make(map[uint32]*peer)
	c.unsaid, c.unheard, c.idle, c.parked = 0, 0, false, false
	c.alone.Store(false)
	c.watch()
	return true
}

// answers are those of a new server to what it was told by attach, which are not for the client.
type answers struct {
	settings, ack bool
	resets        int
	id            uint32
}

// due reports whether some of them are still to come.
func (a *answers) due() bool { return a.settings || a.ack || a.resets > 0 }

// answered has the server read on if no answer is due any more. The caller holds out.mu.
func (c *Conn) answered() {
	if !c.out.answers.due() {
		c.out.answers = nil
		c.isPrimed()
	}
}

// isPrimed has the server read on.
func (c *Conn) isPrimed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.primed != nil {
		close(c.primed)
		c.primed = nil
	}
}

// has reports whether a frame is one of them.
func (a *answers) has(h head) bool {
	switch {
	case h.kind == frameSettings && !h.has(flagAck) && a.settings:
		a.settings = false
	case h.kind == frameSettings && h.has(flagAck) && a.ack:
		a.ack = false
	case h.kind == frameReset && h.id == a.id && a.resets > 0:
		a.resets--
	default:
		return false
	}
	return true
}

// allows takes note of what the server allows the client on the connection, and reports
// whether it passes: a new server begins by allowing what the client knows of.
func (c *Conn) allows(more int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	passes := c.excess == 0
	known := min(more, c.excess)
	c.excess -= known
	c.credit += more - known
	if !passes && more > known {
		c.control = appendWindow(c.control, 0, more-known)
	}
	return passes
}

// shutdown returns what a server is told that has come while the others were shut down: it
// does what they do when the client sends a GOAWAY, and sends one, too. The caller holds in.mu.
func (c *Conn) shutdown() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shutting {
		return nil
	}
	return appendGoAway(nil, 0, codeNo)
}
