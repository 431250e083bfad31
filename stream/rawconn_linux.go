package stream

import (
	"net"
	"os"
	"syscall"
	"unsafe"
)

// maxUnsent is how much the system takes for a client that it cannot send yet,
// apart from one packet. It would take 4 MiB for each, and a client that reads
// nothing would be found late. What it does not take stays where it is: in the
// history, once for all.
const maxUnsent = 16 << 10

// notsentLowat is TCP_NOTSENT_LOWAT of linux/tcp.h. Where the system does not
// know it, nothing is lost but memory.
const notsentLowat = 25

func limitUnsent(fd int) { _ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, notsentLowat, maxUnsent) }

// tcpLine is a TCP connection as a file descriptor of its own.
type tcpConn struct {
	poller     *epoll
	fd, number int32
}

// open implements poller.
func (p *epoll) open(conn *net.TCPConn) (rawConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &tcpConn{poller: p}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var own uintptr
		own, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		c.fd = int32(own)
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, os.NewSyscallError("fcntl", errno)
	}
	return c, nil
}

// drop implements line.
func (c *tcpConn) discard() { _ = syscall.Close(int(c.fd)) }

// watch implements line.
func (c *tcpConn) watch(w watcher) {
	limitUnsent(int(c.fd))
	if err := c.poller.add(c.fd, w, &c.number); err != nil {
		w.onHangup() // it could stall for ever
	}
}

// write sends with system calls that the Go scheduler is not told of: they
// cannot block, and telling it costs more than a tenth of the sending.
func (c *tcpConn) write(frames, events []byte) (int, error) {
	if len(frames) == 0 {
		return c.send(events, 0)
	}
	more := 0
	if len(events) > 0 {
		more = syscall.MSG_MORE
	}
	n, err := c.send(frames, more)
	if n < len(frames) || err != nil || len(events) == 0 {
		return n, err
	}
	m, err := c.send(events, 0)
	return n + m, err
}

func (c *tcpConn) send(p []byte, flags int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(c.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), //nolint:gosec // the bytes of p, as long as the call lasts
			uintptr(flags|syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errFull
		default:
			return 0, os.NewSyscallError("sendto", errno)
		}
	}
}

// discard throws away what the client has sent. Where there is some of it the
// system would reset the connection, and what is on its way would be lost.
func (c *tcpConn) discardInput() {
	const most = 1 << 30
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(c.fd), 0, most, syscall.MSG_TRUNC|syscall.MSG_DONTWAIT, 0, 0)
}

func (c *tcpConn) close(hard bool) {
	c.poller.remove(c.fd, c.number, false) // closing takes it out of the system's
	if hard {
		_ = syscall.SetsockoptLinger(int(c.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	} else {
		c.discardInput()
	}
	_ = syscall.Close(int(c.fd))
}
