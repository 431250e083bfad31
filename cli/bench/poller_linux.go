package bench

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epoll reads many streams in one goroutine. Each descriptor is a duplicate of that of
// the connection, which is closed: so the runtime's own poller is not woken for it.
type epoll struct {
	file *os.File

	mu      sync.Mutex // guards what follows
	streams []*descriptor
	closed  bool
}

// descriptor is the connection of a subscriber.
type descriptor struct {
	fd int // -1: it is closed
	s  *subscriber
}

func newPoller() (poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives a descriptor to the runtime's poller only if it is nonblocking.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &epoll{file: os.NewFile(uintptr(fd), "epoll")}, nil
}

// hangups are the events after which a short read is not the last one.
const hangups = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// adopt implements poller.
func (p *epoll) adopt(s *subscriber) bool {
	conn, ok := s.conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	if err := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(len(p.streams))}
	if p.closed || p.control(fd, &event) != nil {
		_ = unix.Close(fd)
		return false
	}
	p.streams = append(p.streams, &descriptor{fd, s})
	_ = conn.Close()
	s.conn = nil
	return true
}

// control adds a descriptor.
func (p *epoll) control(fd int, event *unix.EpollEvent) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(of uintptr) { failed = unix.EpollCtl(int(of), unix.EPOLL_CTL_ADD, fd, event) }); err != nil {
		return err
	}
	return failed
}

// run implements poller.
func (p *epoll) run(t *tally) {
	defer p.closeAll()
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	events, buf := make([]unix.EpollEvent, 256), make([]byte, 64<<10)
	ready := make([]*descriptor, 0, len(events))
	for {
		n := 0
		if err := raw.Read(func(of uintptr) bool {
			n, _ = unix.EpollWait(int(of), events, 0)
			return n > 0
		}); err != nil {
			return // it is closed
		}
		ready = ready[:0]
		p.mu.Lock()
		for i := range n {
			ready = append(ready, p.streams[events[i].Fd])
		}
		p.mu.Unlock()
		for i, d := range ready {
			d.read(t, buf, events[i].Events&hangups != 0)
		}
	}
}

// read reads what has come. After a short read there is no more, unless the server has
// hung up.
func (d *descriptor) read(t *tally, buf []byte, hungUp bool) {
	if d.fd < 0 {
		return
	}
	var err error
	for err == nil {
		var n int
		n, err = readNow(d.fd, buf)
		switch {
		case err == unix.EINTR: //nolint:errorlint // it is itself
			err = nil
			continue
		case err == unix.EAGAIN: //nolint:errorlint // it is itself
			return
		case err == nil && n == 0:
			err = errEnded
		case err == nil:
			err = d.s.take(t, buf[:n], time.Now())
			if err == nil && n < len(buf) && !hungUp {
				return
			}
		}
	}
	d.s.closed = !t.ending.Load()
	_ = unix.Close(d.fd)
	d.fd = -1
}

// readNow is read(2) of a descriptor that does not block. The scheduler is not told,
// which costs as much as the rest of it.
func readNow(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // as syscall.Read
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// close implements poller.
func (p *epoll) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.file.Close()
}

// closeAll closes the connections.
func (p *epoll) closeAll() {
	p.close()
	for _, d := range p.streams {
		if d.fd >= 0 {
			_ = unix.Close(d.fd)
			d.fd = -1
		}
	}
}
