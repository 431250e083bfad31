package stream

import "sync"

// closer ends detached streams on a goroutine of its own, because that takes
// locks and calls Options.OnEnd, which may block: a writer must not wait for it.
type closer struct {
	kick chan struct{}
	stop chan struct{}

	mu    sync.Mutex // guards ended
	ended []endedStream
}

// endedStream is a stream whose connection is closed, and why it ended.
type endedStream struct {
	stream *detached
	reason Reason
}

// add queues a stream whose connection is closed. It is safe for concurrent use
// and does not block.
func (c *closer) add(d *detached, reason Reason) {
	c.mu.Lock()
	c.ended = append(c.ended, endedStream{d, reason})
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// run ends the queued streams until c.stop is closed.
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
			e.stream.writer.all.remove(e.stream)
		}
	}
}
