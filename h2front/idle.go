package h2front

import "time"

// SetIdle tells whether the server has no open stream.
func (c *Conn) SetIdle(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.tries = idle, 0
	c.watch()
}

// watch starts and stops the timers that run while the server has nothing to do. The
// caller holds c.mu.
func (c *Conn) watch() {
	quiet := c.idle && !c.broken && !c.leaving && !c.doomed
	taken, awaited := len(c.taken), len(c.awaited)
	start(&c.idleEnd, quiet && taken+awaited == 0, c.options.IdleTimeout, c.endIdle)
	start(&c.parkEnd, quiet && taken > 0 && awaited == 0 && !c.alone.Load(), c.parkAfter(), c.park)
}

// start has a timer begin anew, or stops it if on is not set, or after is 0.
func start(timer **time.Timer, on bool, after time.Duration, f func()) {
	switch on = on && after > 0; {
	case on && *timer == nil:
		*timer = time.AfterFunc(after, f)
	case on:
		(*timer).Reset(after)
	case *timer != nil:
		(*timer).Stop()
		*timer = nil
	}
}

// endIdle ends a connection that was idle for too long. If it has a server, that may just have
// been told of a request: who reads decides.
func (c *Conn) endIdle() {
	c.mu.Lock()
	if c.idleEnd == nil || c.broken { // stopped too late
		c.mu.Unlock()
		return
	}
	c.idleEnd = nil
	if c.alone.Load() {
		c.end()
	} else {
		c.ending = true
	}
	_ = c.conn.SetReadDeadline(past)
	c.mu.Unlock()
	c.kick()
}

// end has the client be told up to which stream it was served. No server comes any more. The
// caller holds c.mu.
func (c *Conn) end() {
	c.over = true
	c.control = appendGoAway(c.control, c.highest, codeNo)
}

// mayEnd reports whether the client waits for nothing. A request of which it has not sent all
// headers is none. The caller holds in.mu and c.mu.
func (c *Conn) mayEnd() bool {
	part := c.in.block || c.in.headers && c.in.left > 0
	return c.idle && len(c.taken)+len(c.awaited) == 0 && (len(c.known) == 0 || part)
}
