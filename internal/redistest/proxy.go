package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is an address of 127.0.0.1 behind which another one is, and the
// faults that there are on the way. They last until Heal. Methods are safe for
// concurrent use, but Heal is for the goroutine of the test.
type Proxy struct {
	t    testing.TB
	port int
	wg   sync.WaitGroup // what accepts and what forwards

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	faults   faults
}

// faults are what happens on the way.
type faults struct {
	delay   time.Duration
	rate    int           // bytes per second, 0 is unbounded
	swallow bool          // replies
	frozen  chan struct{} // nil, or not closed as long as nothing is forwarded
}

// StartProxy forwards what comes to an address of its own to the target, until
// the test ends.
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

// Addr is where the proxy is, cut or not.
func (p *Proxy) Addr() string { return address(p.port) }

// Heal ends every fault. What Freeze and Delay held back goes on.
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
// connection. Connections are accepted, and go no further.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.frozen == nil {
		p.faults.frozen = make(chan struct{})
	}
}

// Delay holds back what comes from now on, in each direction for d.
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

// DropReplies forwards requests, which are obeyed, and closes a connection
// instead of forwarding the first reply that comes on it.
func (p *Proxy) DropReplies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.swallow = true
}

// Retarget closes every connection, and leads new ones to another address.
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

// now are the faults of this moment.
func (p *Proxy) now() faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}
