package h2front

import "time"

// maxDoubled bounds how often ParkAfter doubles where a server cannot go, or comes again at once:
// that may be so for as long as the connection lasts.
const maxDoubled = 10

// parkAfter is how long the server may have nothing to do before it is tried to have it go. The
// caller holds c.mu.
func (c *Conn) parkAfter() time.Duration {
	return c.options.ParkAfter << min(c.tries+c.returns, maxDoubled)
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
			c.alone.Store(true)
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
			c.known, c.parked, c.parkedAt = nil, true, time.Now()
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
	if none {
		_ = c.conn.SetReadDeadline(past)
	}
	c.mu.Unlock()
	c.kick()
}
