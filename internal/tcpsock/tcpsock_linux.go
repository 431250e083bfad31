package tcpsock

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UnsentLimit is the TCP_NOTSENT_LOWAT for which Room is right: a socket with more bytes
// that were not sent yet takes no others. A socket without it has more room than that.
const UnsentLimit = 16 << 10

const (
	// most is the most that Room returns. While there is less than that in a socket whose
	// limit is UnsentLimit, it takes that much.
	most = UnsentLimit / 2
	// least is what there is room for, at the least, if the system says that there is some.
	least = 1 << 10
	// overhead is by how much more memory than its bytes a write may need. The system
	// counts some two kilobytes besides for each packet of a connection, and a layer above
	// may make packets of a kilobyte of it.
	overhead = 4
)

// FD returns the file descriptor of conn if Room is right for it, and ok. The owner of
// conn must not close it while the descriptor is in use.
func FD(conn *net.TCPConn) (fd int, ok bool) {
	// The buffers of MPTCP are those of its subflows.
	if several, err := conn.MultipathTCP(); several || err != nil {
		return 0, false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	if err := raw.Control(func(handle uintptr) { fd = int(handle) }); err != nil {
		return 0, false
	}
	_, _, ok = SendBuffer(fd)
	return fd, ok
}

// Room returns how many bytes can be written to a socket without waiting, in packets of
// a kilobyte or more. If that is none, an epoll instance that watches the socket
// edge-triggered is told by EPOLLOUT when there is room. The system may be short of
// memory all the same, and have a write wait.
func Room(fd int) int {
	used, size, ok := SendBuffer(fd)
	if !ok {
		return least // the socket is broken, as a write will tell
	}
	room := (size - used) / overhead
	if used < most && room >= least {
		return min(room, most)
	}
	// Only poll has the system tell when there is room, and tells whether too many bytes
	// were not sent yet.
	state := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(state[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			return 0
		}
		return max(least, min(room, most))
	}
}

// SendBuffer returns how much memory of the send buffer of a socket is used, and how much
// there is: a write waits once all of it is used.
func SendBuffer(fd int) (used, size int, ok bool) {
	// See sk_get_meminfo of the kernel, and sock_diag.h.
	const indexSize, indexUsed = 3, 5
	var info [indexUsed + 1]uint32
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0) //nolint:gosec // the system writes to both, as long as the call lasts
	if errno != 0 || uintptr(length) != unsafe.Sizeof(info) {
		return 0, 0, false
	}
	return int(info[indexUsed]), int(info[indexSize]), true
}

// Unread returns how many bytes wait to be read from a socket.
func Unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// DiscardInput throws away what the client has sent. When a connection with unread
// input is closed the system resets it, and bytes on their way to the client are lost.
func DiscardInput(fd int) {
	const all = 1 << 30
	_, _, _ = syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, all, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
}
