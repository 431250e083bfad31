package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards connections from an address of 127.0.0.1 to another one, with
// faults that last until Heal. Methods are safe for concurrent use, except that
// Heal is for the goroutine of the test.
type Proxy struct {
	t    testing.TB
	port int
	wg   sync.WaitGroup // the goroutines that accept and forward

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	faults   faults
}

// faults are the current faults.
type faults struct {
	delay   time.Duration
	rate    int           // bytes per second, 0 is unbounded
	swallow bool          // replies
	frozen  chan struct{} // nil, or closed when data are forwarded again
}

// StartProxy runs a proxy to the target, until the test ends.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, port: freePort(t), target: target, links: map[*link]struct{}{}}
	p.Heal()
	t.Cleanup(func() {
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is the address of the proxy, also while it is cut.
func (p *Proxy) Addr() string { return address(p.port) }

// Heal ends all faults. What Freeze and Delay have held back is forwarded.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.frozen != nil {
		close(p.faults.frozen)
	}
	p.faults = faults{}
	if p.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", p.Addr())
	if err != nil {
		p.t.Fatalf("the proxy cannot listen again: %v", err)
	}
	p.listener = listener
	p.wg.Go(func() { p.accept(listener) })
}

// Cut closes every connection, and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		forking.RLock()
		_ = p.listener.Close()
		forking.RUnlock()
		p.listener = nil
	}
	p.closeLinks()
}

// closeLinks is called with mu held.
func (p *Proxy) closeLinks() {
	forking.RLock()
	defer forking.RUnlock()
	for l := range p.links {
		l.end()
		_ = l.client.Close()
	}
	clear(p.links)
}

// Freeze forwards nothing any more, not even that a side has closed its
// connection. New connections are accepted, but not forwarded.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.frozen == nil {
		p.faults.frozen = make(chan struct{})
	}
}

// Delay delays what comes from now on by d, in each direction.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.delay = d
}

// Throttle forwards so many bytes a second in each direction of each
// connection. 0 is no bound.
func (p *Proxy) Throttle(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.rate = bytesPerSecond
}

// DropReplies forwards requests, which are executed, and closes each connection
// instead of forwarding the next reply.
func (p *Proxy) DropReplies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.swallow = true
}

// Retarget closes all connections, and forwards new ones to another address.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.closeLinks()
}

// Conns counts the connections that are accepted and not closed.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		p.mu.Lock()
		switch {
		case p.listener != listener: // cut
			if err == nil {
				_ = conn.Close()
			}
			p.mu.Unlock()
			return
		case err != nil:
			p.mu.Unlock()
			p.t.Errorf("the proxy accepts nothing any more: %v", err)
			return
		}
		l := &link{proxy: p, client: conn}
		l.ctx, l.end = context.WithCancel(context.Background())
		p.links[l] = struct{}{}
		p.wg.Go(l.run)
		p.mu.Unlock()
	}
}

// now returns the current faults.
func (p *Proxy) now() faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}
