package nettest

import "net"

// Deaf is a connection from which nothing is read after Since was closed, so that
// its buffers fill. A read then blocks until Until is closed.
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
