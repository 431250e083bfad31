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
type tcpLine struct {
	poller     *epoll
	fd, number int32
}

// open implements poller.
func (p *epoll) open(conn *net.TCPConn) (line, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &tcpLine{poller: p}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var own uintptr
		own, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		l.fd = int32(own)
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, os.NewSyscallError("fcntl", errno)
	}
	return l, nil
}

// drop implements line.
func (l *tcpLine) drop() { _ = syscall.Close(int(l.fd)) }

// watch implements line.
func (l *tcpLine) watch(w watcher) {
	limitUnsent(int(l.fd))
	if err := l.poller.add(l.fd, w, &l.number); err != nil {
		w.hangup() // it could stall for ever
	}
}

// write sends with system calls that the Go scheduler is not told of: they
// cannot block, and telling it costs more than a tenth of the sending.
func (l *tcpLine) write(frames, events []byte) (int, error) {
	if len(frames) == 0 {
		return l.send(events, 0)
	}
	more := 0
	if len(events) > 0 {
		more = syscall.MSG_MORE
	}
	n, err := l.send(frames, more)
	if n < len(frames) || err != nil || len(events) == 0 {
		return n, err
	}
	m, err := l.send(events, 0)
	return n + m, err
}

func (l *tcpLine) send(p []byte, flags int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(l.fd),
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
func (l *tcpLine) discard() {
	const most = 1 << 30
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(l.fd), 0, most, syscall.MSG_TRUNC|syscall.MSG_DONTWAIT, 0, 0)
}

func (l *tcpLine) close(hard bool) {
	l.poller.remove(l.fd, l.number, false) // closing takes it out of the system's
	if hard {
		_ = syscall.SetsockoptLinger(int(l.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	} else {
		l.discard()
	}
	_ = syscall.Close(int(l.fd))
}
