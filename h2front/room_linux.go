package h2front

import (
	"net"

	"golang.org/x/sys/unix"
)

// roomy is how much may be on its way to the client, of all that was written, for a
// further write to be taken by the system at once: its buffers hold more than twice that.
const roomy = 16 << 10

// hasRoom reports whether n bytes can be written without waiting for the client. It may
// report false though there is room.
func (c *Conn) hasRoom(n int) bool {
	conn := c.conn
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	queued := -1 // bytes that the client has not acknowledged
	err = raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err == nil {
			queued = n
		}
	})
	return err == nil && (queued == 0 || queued > 0 && queued+n <= roomy)
}
