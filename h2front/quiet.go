package h2front

import "time"

// maxTries bounds how often ParkAfter doubles where a server cannot go: that may be so for as
// long as the connection lasts.
const maxTries = 10

// SetIdle tells whether the server has no open stream.
func (c *Conn) SetIdle(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.tries = idle, 0
	c.watch()
}

// Handle serves requests of the server, and counts those that are being served: a server bounds
// how many handlers run, also of streams that were reset, and the next one would not know of them.
func (c *Conn) Handle(serve func()) {
	c.mu.Lock()
	c.handlers++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.handlers--; c.handlers == 0 {
			c.tries = 0
			c.watch()
		}
	}()
	serve()
}

// watch starts and stops the timers that run while the server has nothing to do. The
// caller holds c.mu.
func (c *Conn) watch() {
	quiet := c.idle && !c.broken && !c.leaving && !c.doomed
	taken, awaited := len(c.taken), len(c.awaited)
	start(&c.idleEnd, quiet && taken+awaited == 0, c.options.IdleTimeout, c.endIdle)
	start(&c.parkEnd, quiet && taken > 0 && awaited == 0 && !c.alone.Load(), c.parkAfter(), c.park)
}

// parkAfter is how long the server may have nothing to do before it is tried to have it go. The
// caller holds c.mu.
func (c *Conn) parkAfter() time.Duration { return c.options.ParkAfter << min(c.tries, maxTries) }

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

// end has the client be told up to which stream it was served, and the server, if there is one,
// read the end of the connection. The caller holds c.mu.
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

// park interrupts the server's read, so that the server goes.
func (c *Conn) park() {
	c.mu.Lock()
	if c.parkEnd == nil || c.broken { // stopped too late
		c.mu.Unlock()
		return
	}
	c.parkEnd, c.parking = nil, true
	_ = c.conn.SetReadDeadline(past) // before anything else is decided: no later read is to meet it
	c.mu.Unlock()
}

// interrupted is called when the deadline of a read of the server has passed. It reports
// whether that was for one of the timers. The caller holds in.mu.
func (c *Conn) interrupted() bool {
	free := c.out.mu.TryLock() // the server does not write
	c.mu.Lock()
	timer := c.over || c.parking || c.ending
	if c.ending {
		c.ending = false
		if c.mayEnd() {
			c.end()
		} else {
			_ = c.conn.SetReadDeadline(time.Time{})
			c.watch()
		}
	}
	if c.parking {
		c.parking = false
		_ = c.conn.SetReadDeadline(time.Time{})
		if !free || !c.mayPark() || !c.in.keep() {
			c.tries++
		} else {
			c.known, c.parked = nil, true
			c.alone.Store(true)
		}
		c.watch() // it may have begun anew meanwhile, and wait would spin
	}
	c.mustBeWritten()
	c.mu.Unlock()
	if free {
		c.release(false)
	}
	return timer
}

// mayPark reports whether neither the server nor the client waits for the other, and nothing
// is lost if the server goes. The caller holds all locks.
func (c *Conn) mayPark() bool {
	in, out := &c.in, &c.out
	if in.preface > 0 || in.have > 0 || in.left > 0 || in.block || len(in.ready)+len(in.replay) > 0 || in.table == nil {
		return false
	}
	if out.have > 0 || out.left > 0 || out.block || out.answers != nil || out.pushed {
		return false
	}
	// What the server was told last may have an answer that is not written yet.
	if time.Since(in.passed) < c.options.ParkAfter {
		return false
	}
	if !c.idle || c.leaving || c.doomed || c.broken || c.shutting || c.handlers > 0 || c.unsaid != 0 || c.unheard != 0 {
		return false
	}
	if c.known == nil || len(c.known)+len(c.awaited) > 0 || len(c.taken) == 0 {
		return false
	}
	for _, s := range c.taken {
		if !s.open {
			return false
		}
	}
	return true
}

// Leave has a connection that is parked be told that it ends with its last stream. It is
// to be called when the servers shut down, before they are told.
func (c *Conn) Leave() {
	c.mu.Lock()
	c.shutting = true
	if !c.parked || c.broken {
		c.mu.Unlock()
		return
	}
	c.parked, c.leaving = false, true
	c.control = appendGoAway(c.control, c.highest, codeNo)
	none := len(c.taken) == 0
	c.watch()
	c.mu.Unlock()
	c.kick()
	if none {
		_ = c.conn.SetReadDeadline(past)
	}
}
