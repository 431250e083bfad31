package nettest

import "net"

// Deaf is a connection from which nothing is read any more once Since is
// closed: its buffers fill. A read then lasts until Until is closed.
type Deaf struct {
	net.Conn
	Since, Until <-chan struct{}
}

// Read implements net.Conn.
func (d Deaf) Read(p []byte) (int, error) {
	select {
	case <-d.Since:
		<-d.Until
		return 0, net.ErrClosed
	default:
		return d.Conn.Read(p)
	}
}
