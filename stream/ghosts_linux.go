package stream

import (
	"net"
	"syscall"
	"time"
)

// userTimeout is TCP_USER_TIMEOUT of linux/tcp.h (RFC 5482): how many milliseconds
// data may be unacknowledged. It bounds probes, too, in place of their number.
const userTimeout = 18

// setUserTimeout sets how long data may be unacknowledged; 0 sets the system's bound.
func setUserTimeout(conn *net.TCPConn, limit time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // the connection is closed
	}
	ms := int(min(limit.Milliseconds(), 1<<31-1))
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, ms) })
}
