package stream

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix" // for system calls that package syscall does not number on all processors

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// maxUnsent bounds the bytes, apart from one packet, that the system takes for a
// client before it can send them. By default it takes up to 4 MiB for each
// client, and one that reads nothing is noticed late. What the system does not
// take stays in the history, which all streams share.
const maxUnsent = tcpsock.UnsentLimit

// notsentLowat is TCP_NOTSENT_LOWAT of linux/tcp.h. A kernel that does not know
// the option only uses more memory.
const notsentLowat = 25

func limitUnsent(fd int) { _ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, notsentLowat, maxUnsent) }

// tcpConn is a rawConn: a TCP connection with a file descriptor of its own.
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

// discard implements rawConn.
func (c *tcpConn) discard() { _ = syscall.Close(int(c.fd)) }

// watch implements rawConn.
func (c *tcpConn) watch(w watcher) {
	limitUnsent(int(c.fd))
	if err := c.poller.add(c.fd, w, &c.number); err != nil {
		w.onHangup() // unwatched, a full connection would never be written again
	}
}

// maxJoined is the size up to which a chunk is copied to be sent: the system takes longer
// to gather pieces than it takes to copy so many bytes.
const maxJoined = 1 << 10

// write implements rawConn. It makes one raw system call, of which the Go scheduler is not
// told: it cannot block, and telling it costs more than a tenth of the send.
func (c *tcpConn) write(ch *chunk) (int, error) {
	for {
		n, errno := c.send(ch)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errFull
		default:
			return 0, os.NewSyscallError("send", errno)
		}
	}
}

// sendFlags are for a send that neither blocks nor raises a signal.
const sendFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

func (c *tcpConn) send(ch *chunk) (uintptr, syscall.Errno) {
	if ch.left() <= maxJoined {
		return c.sendJoined(ch)
	}
	return c.sendPieces(ch)
}

// sendJoined sends a chunk of at most maxJoined bytes.
func (c *tcpConn) sendJoined(ch *chunk) (uintptr, syscall.Errno) {
	var joined [maxJoined]byte
	n := 0
	for _, p := range ch.pieces {
		n += copy(joined[n:], p)
	}
	sent, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd),
		uintptr(unsafe.Pointer(&joined)), uintptr(n), sendFlags, 0, 0) //nolint:gosec // joined, as long as the call lasts
	return sent, errno
}

// sendPieces sends a chunk from where its pieces are.
func (c *tcpConn) sendPieces(ch *chunk) (uintptr, syscall.Errno) {
	var pieces [len(ch.pieces)]syscall.Iovec
	n := 0
	for _, p := range ch.pieces {
		if len(p) > 0 {
			pieces[n].Base = unsafe.SliceData(p) //nolint:gosec // sendmsg takes addresses, and p outlives the call
			pieces[n].SetLen(len(p))
			n++
		}
	}
	message := syscall.Msghdr{Iov: &pieces[0]}
	setLen(&message.Iovlen, n)
	sent, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(c.fd),
		uintptr(unsafe.Pointer(&message)), sendFlags) //nolint:gosec // message, and what it points to, as long as the call lasts
	return sent, errno
}

// setLen sets a length of a system structure, whose type depends on the processor.
func setLen[T uint32 | uint64](field *T, n int) { *field = T(n) }

// close implements rawConn.
func (c *tcpConn) close(hard bool) {
	c.poller.remove(c.fd, c.number, false) // closing the descriptor removes it from epoll
	if hard {
		_ = syscall.SetsockoptLinger(int(c.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	} else {
		tcpsock.DiscardInput(int(c.fd))
	}
	_ = syscall.Close(int(c.fd))
}
