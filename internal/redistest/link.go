package redistest

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	chunkSize = 16 << 10
	maxChunks = 256 // that wait, in one direction of a connection
)

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	client net.Conn
	ctx    context.Context // ends with the link
	end    context.CancelFunc
}

// chunk is what one read has returned, and when it may be written. An empty one
// is the end of the connection.
type chunk struct {
	bytes []byte
	due   time.Time
}

// run forwards until a side closes the connection or the proxy does.
func (l *link) run() {
	defer func() {
		l.end()
		_ = l.client.Close()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	if !l.pass() {
		return
	}
	l.proxy.mu.Lock()
	target := l.proxy.target
	l.proxy.mu.Unlock()
	server, err := new(net.Dialer).DialContext(l.ctx, "tcp", target)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	requests, replies := make(chan chunk, maxChunks), make(chan chunk, maxChunks)
	wg.Go(func() { l.read(l.client, requests) })
	wg.Go(func() { l.read(server, replies) })
	wg.Go(func() { l.write(server, requests, false) })
	wg.Go(func() { l.write(l.client, replies, true) })
	<-l.ctx.Done()
	// The goroutines end with the connections.
	_ = l.client.Close()
	_ = server.Close()
}

// pass waits while the proxy is frozen. It returns false if the link has ended.
func (l *link) pass() bool {
	if frozen := l.proxy.now().frozen; frozen != nil {
		select {
		case <-l.ctx.Done():
		case <-frozen:
		}
	}
	return l.ctx.Err() == nil
}

// read reads chunks into to, until the connection ends.
func (l *link) read(from net.Conn, to chan<- chunk) {
	for buffer := make([]byte, chunkSize); ; {
		n, err := from.Read(buffer)
		c := chunk{due: time.Now().Add(l.proxy.now().delay)}
		if n > 0 {
			c.bytes = append(c.bytes, buffer[:n]...)
		} else if err == nil {
			continue
		}
		select {
		case to <- c:
		case <-l.ctx.Done():
			return
		}
		if n == 0 {
			return
		}
	}
}

// write writes the chunks of from. When it returns, the link ends.
func (l *link) write(to net.Conn, from <-chan chunk, replies bool) {
	defer l.end()
	for {
		var c chunk
		select {
		case c = <-from:
		case <-l.ctx.Done():
			return
		}
		if !l.sleep(time.Until(c.due)) {
			return
		}
		for first := true; first || len(c.bytes) > 0; first = false {
			if !l.pass() || len(c.bytes) == 0 {
				return
			}
			now := l.proxy.now()
			if now.swallow && replies {
				return
			}
			n := len(c.bytes)
			if now.rate > 0 {
				n = min(n, max(1, now.rate/50))
			}
			if _, err := to.Write(c.bytes[:n]); err != nil {
				return
			}
			c.bytes = c.bytes[n:]
			if now.rate > 0 && !l.sleep(time.Duration(n)*time.Second/time.Duration(now.rate)) {
				return
			}
		}
	}
}

// sleep returns false if the link ends before.
func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}
