package stream

import (
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/evstream/caddy-evstream/internal/parked"
)

// epoll is the poller of Linux. The Go runtime's own poller wakes a goroutine for
// each connection; this one calls a watcher, so that a connection needs none. It
// waits for its epoll descriptor in the runtime's poller, and blocks no thread.
type epoll struct {
	file *os.File

	mu         sync.Mutex // guards what follows
	watchers   registrations
	lastNumber int32
	parked     *parked.Group // of TLS connections; nil until there is one
}

// registration is a watched file descriptor. The number distinguishes it from
// earlier registrations of the same descriptor, whose events may still arrive.
type registration struct {
	watcher watcher
	number  int32
}

// registrations are those of file descriptors, by pages: descriptors are small numbers, the
// lowest that are free, and a map would take three times the memory.
type registrations struct {
	pages []*[registrationsPerPage]registration
}

const registrationsPerPage = 128

// of returns the registration of a descriptor, which has no watcher if there is none.
func (r *registrations) of(fd int32) registration {
	if page := int(fd / registrationsPerPage); page < len(r.pages) && r.pages[page] != nil {
		return r.pages[page][fd%registrationsPerPage]
	}
	return registration{}
}

// set sets the registration of a descriptor.
func (r *registrations) set(fd int32, to registration) {
	page := int(fd / registrationsPerPage)
	if page >= len(r.pages) {
		r.pages = append(r.pages, make([]*[registrationsPerPage]registration, page+1-len(r.pages))...)
	}
	if r.pages[page] == nil {
		r.pages[page] = new([registrationsPerPage]registration)
	}
	r.pages[page][fd%registrationsPerPage] = to
}

// newPoller opens an epoll instance.
func newPoller() (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives a descriptor to the runtime's poller only if it is nonblocking.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &epoll{file: os.NewFile(uintptr(fd), "epoll")}, nil
}

// The events of interest: a connection that was full is writable again, and the
// client has closed the connection. A half-close counts as a close, as it does
// for an HTTP server. An inputWatcher is told of input, too.
const (
	hangups  = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	edge     = 1 << 31 // EPOLLET
	interest = syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge
)

// add begins to watch a descriptor for w. It stores the number of the
// registration, for remove, before w is called.
func (p *epoll) add(fd int32, w watcher, number *int32) error {
	p.mu.Lock()
	p.lastNumber = max(p.lastNumber+1, 1) // restarts at 1 on overflow; 0 is no registration's
	*number = p.lastNumber
	p.watchers.set(fd, registration{w, p.lastNumber})
	event := syscall.EpollEvent{Events: interest, Fd: fd, Pad: p.lastNumber}
	if _, input := w.(inputWatcher); input {
		event.Events |= syscall.EPOLLIN
	}
	p.mu.Unlock()
	err := p.control(syscall.EPOLL_CTL_ADD, fd, &event)
	if err != nil {
		p.remove(fd, event.Pad, false)
	}
	return err
}

// remove removes the registration that add made, unless the descriptor has been
// closed and registered anew. open says that the descriptor is open, and must be
// removed from the epoll instance, too; that happens under p.mu, before another
// connection with this descriptor can be added.
func (p *epoll) remove(fd, number int32, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers.of(fd).number != number {
		return
	}
	p.watchers.set(fd, registration{})
	if open {
		_ = p.control(syscall.EPOLL_CTL_DEL, fd, nil)
	}
}

// control calls epoll_ctl. It returns an error if the poller is closed.
func (p *epoll) control(op int, fd int32, event *syscall.EpollEvent) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(epfd uintptr) { failed = syscall.EpollCtl(int(epfd), op, int(fd), event) }); err != nil {
		return err
	}
	return failed
}

// run implements poller.
func (p *epoll) run() {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := raw.Read(func(epfd uintptr) bool {
			n, _ = syscall.EpollWait(int(epfd), events, 0)
			return n > 0
		})
		if err != nil {
			return // the poller is closed
		}
		for i := range max(n, 0) {
			p.dispatch(&events[i])
		}
	}
}

// dispatch calls the watcher that an event is for, if there still is one.
func (p *epoll) dispatch(event *syscall.EpollEvent) {
	p.mu.Lock()
	r := p.watchers.of(event.Fd)
	p.mu.Unlock()
	switch {
	case r.number != event.Pad:
	case event.Events&hangups != 0:
		r.watcher.onHangup()
	default:
		if event.Events&syscall.EPOLLOUT != 0 {
			r.watcher.onWritable()
		}
		if w, input := r.watcher.(inputWatcher); input && event.Events&syscall.EPOLLIN != 0 {
			w.onReadable()
		}
	}
}

// close implements poller.
func (p *epoll) close() {
	if p.parked != nil { // no stream is left that could make one
		p.parked.Close()
	}
	_ = p.file.Close()
}

// epollWatch is a connWatch: it watches a descriptor that somebody else owns.
type epollWatch struct {
	poller     *epoll
	fd, number int32
}

// watch implements poller.
func (p *epoll) watch(conn *net.TCPConn, w watcher) (connWatch, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	ew := &epollWatch{poller: p}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		ew.fd = int32(fd)
		limitUnsent(int(fd))
		failed = p.add(ew.fd, w, &ew.number)
	}); err != nil {
		return nil, err
	}
	return ew, failed
}

// stop implements connWatch. If the descriptor was closed and belongs to another
// connection by now, remove does nothing.
func (w *epollWatch) stop() {
	w.poller.remove(w.fd, w.number, true)
}
