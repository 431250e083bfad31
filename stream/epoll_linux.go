package stream

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// epoll is the poller of Linux. The Go runtime has one of its own, which wakes
// a goroutine a connection; this one tells a stream's writer. It waits in the
// runtime's, so that no thread is held.
type epoll struct {
	file *os.File

	mu         sync.Mutex // guards what follows
	watchers   map[int32]registration
	lastNumber int32
}

// registration is a file descriptor that is watched. Its number tells it from
// earlier ones with the same descriptor.
type registration struct {
	watcher watcher
	number  int32
}

func newPoller() (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// What is not blocking, os.NewFile has the runtime wait for.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &epoll{file: os.NewFile(uintptr(fd), "epoll"), watchers: make(map[int32]registration)}, nil
}

// What is waited for: room, once after there was none, and what says that the
// client is gone, or that it will send no more, which to a server is the same.
const (
	hangups  = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	edge     = 1 << 31 // EPOLLET
	interest = syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge
)

// add begins to watch a descriptor. The number is set before w is told anything.
func (p *epoll) add(fd int32, w watcher, number *int32) error {
	p.mu.Lock()
	p.lastNumber = max(p.lastNumber+1, 1) // from the beginning, some day; 0 is nobody's
	*number = p.lastNumber
	p.watchers[fd] = registration{w, p.lastNumber}
	event := syscall.EpollEvent{Events: interest, Fd: fd, Pad: p.lastNumber}
	p.mu.Unlock()
	err := p.control(syscall.EPOLL_CTL_ADD, fd, &event)
	if err != nil {
		p.remove(fd, event.Pad, false)
	}
	return err
}

// remove ends the watching that add began, if it has not ended by itself with
// the descriptor. What the system is to be told, too, it is told before the
// descriptor can be another's.
func (p *epoll) remove(fd, number int32, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers[fd].number != number {
		return
	}
	delete(p.watchers, fd)
	if open {
		_ = p.control(syscall.EPOLL_CTL_DEL, fd, nil)
	}
}

// control calls epoll_ctl, unless the poller is closed.
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

// run tells watchers what becomes of their connections, until the poller is
// closed.
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
			return // it is closed
		}
		for i := range max(n, 0) {
			p.dispatch(&events[i])
		}
	}
}

func (p *epoll) dispatch(event *syscall.EpollEvent) {
	p.mu.Lock()
	r := p.watchers[event.Fd]
	p.mu.Unlock()
	switch {
	case r.number != event.Pad:
	case event.Events&hangups != 0:
		r.watcher.onHangup()
	default:
		r.watcher.onWritable()
	}
}

func (p *epoll) close() { _ = p.file.Close() }

// lookout watches a connection that is somebody else's.
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

// forget implements watched. The descriptor may be closed by now, and another
// connection's: then there is nothing to forget.
func (w *epollWatch) stop() {
	w.poller.remove(w.fd, w.number, true)
}
