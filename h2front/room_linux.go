package h2front

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// roomy is how much may be on its way to the client, of all that was written, for a
// further write to be taken by the system at once: its buffers hold more than twice that.
// tcpsock.Room is surer, and tells of less: a busy connection would need two writes for one.
const roomy = 16 << 10

// descriptor returns the file descriptor of the socket of conn, or -1 if it is not known how
// much room that has.
func descriptor(conn net.Conn) int {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if fd, ok := tcpsock.FD(tcp); ok {
			return fd
		}
	}
	return -1
}

// hasRoom reports whether n bytes can be written without waiting for the client. It may
// report false though there is room. If the connection is closed meanwhile it may report
// anything: the write fails.
func (c *Conn) hasRoom(n int) bool {
	if c.fd < 0 {
		return false
	}
	queued, err := unix.IoctlGetInt(c.fd, unix.TIOCOUTQ) // bytes that the client has not acknowledged
	return err == nil && (queued == 0 || queued+n <= roomy)
}
