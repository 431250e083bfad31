package h2front

import (
	"net"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

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
func (c *Conn) hasRoom(n int) bool { return c.fd >= 0 && tcpsock.Room(c.fd) >= n }
