package stream

import "sync"

// farewell ends streams on a goroutine of its own, because that takes locks,
// and whoever is told may take its time.
type closer struct {
	kick chan struct{}
	stop chan struct{}

	mu    sync.Mutex // guards ended
	ended []endedStream
}

// parting is a stream that has ended, and why.
type endedStream struct {
	stream *detached
	reason Reason
}

func (c *closer) add(d *detached, reason Reason) {
	c.mu.Lock()
	c.ended = append(c.ended, endedStream{d, reason})
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *closer) run() {
	for {
		select {
		case <-c.stop:
			return
		case <-c.kick:
		}
		c.mu.Lock()
		ended := c.ended
		c.ended = nil
		c.mu.Unlock()
		for _, e := range ended {
			e.stream.session.end(e.reason)
			e.stream.writers.remove(e.stream)
		}
	}
}
