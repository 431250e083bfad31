package stream

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/evstream/caddy-evstream/h2front"
)

// ghosts bounds how long a peer that has vanished, without a word and with its link,
// is taken for a client that is quiet. What a stream writes to it goes into the
// system's buffer and is sent again for a quarter of an hour, so write timeouts do
// not find it. Two bounds do: on data that is not acknowledged (Linux only), and on
// probes that are not answered on a connection without data. With heartbeats off the
// second finds all.
type ghosts struct {
	unacknowledged time.Duration // how long written data may be unacknowledged
	idle, interval time.Duration // when the first probe is sent, and the next ones
	probes         int           // how many are lost before the connection is, where unacknowledged has no effect
}

// defaultGhosts finds a ghost within 45 s: within 15 s something is sent, a heartbeat
// or a probe, and 30 s later its acknowledgement is overdue.
func defaultGhosts() ghosts {
	return ghosts{unacknowledged: 30 * time.Second, idle: 15 * time.Second, interval: 5 * time.Second, probes: 6}
}

// bound sets the bounds for conn, if it is a TCP connection or TLS over one. A client
// that reads nothing acknowledges no data either once the buffers are full, and it
// has the write timeout for that.
func (g *ghosts) bound(conn net.Conn, writeTimeout time.Duration) {
	tcp := tcpOf(conn)
	if tcp == nil {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: g.idle, Interval: g.interval, Count: g.probes})
	setUserTimeout(tcp, max(g.unacknowledged, writeTimeout))
}

// lift removes the bound on unacknowledged data from a connection that goes on after
// its streams: it is not meant for a download that the client has paused.
func (*ghosts) lift(conn net.Conn) {
	if tcp := tcpOf(conn); tcp != nil {
		setUserTimeout(tcp, 0)
	}
}

// tcpOf returns the TCP connection that conn is, or that TLS is spoken over, or nil.
func tcpOf(conn net.Conn) *net.TCPConn {
	if c, ok := conn.(*h2front.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}
