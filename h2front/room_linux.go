package h2front

import (
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/evstream/caddy-evstream/internal/tcpsock"
)

// roomy is how much may be on its way to the client, of all that was written, for a
// further write not to be left to a goroutine: a client that is slow is to have no more.
const roomy = 16 << 10

// What a write needs, at the most.
const (
	// recordSize is the least that TLS puts into a record, but for the last one of a write,
	// and recordOverhead the most that it adds to one.
	recordSize     = 1 << 10
	recordOverhead = 64
	// packetMemory is the memory that the system needs for a packet besides its bytes, and
	// packetSize the least that it puts into one, but for the last one of a record, unless
	// the client asks for less.
	packetMemory = 1280
	packetSize   = 1 << 10
	// untold is the memory of what TLS itself writes while it reads, in answers to messages
	// of the client: it takes 16 in a row.
	untold = 16 << 10
)

// room is what is known of the room in the socket of a Conn: what there was when the system
// was asked, less what was written since. Who asks for it, or writes, holds output.mu.
type room struct {
	bytes, memory int
	packet        int         // the least that the system puts into a packet
	told          atomic.Bool // the system was asked, and nothing was read since
}

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
// anything: the write fails. The caller holds out.mu.
func (c *Conn) hasRoom(n int) bool {
	r := &c.out.room
	bytes, memory := r.needs(n)
	if r.told.Load() && bytes <= r.bytes && memory <= r.memory {
		return true
	}
	if c.fd < 0 {
		return false
	}
	r.told.Store(true) // before it is asked: what is read then may come after
	r.bytes, r.memory = 0, 0
	queued, err := unix.IoctlGetInt(c.fd, unix.TIOCOUTQ) // bytes that the client has not acknowledged
	if err != nil || queued > 0 && queued+bytes > roomy {
		return false
	}
	segment, err := unix.GetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG) // at most half of the client's window
	used, size, ok := tcpsock.SendBuffer(c.fd)
	if err != nil || !ok {
		return false
	}
	r.packet = max(1, min(segment, packetSize))
	if _, memory = r.needs(n); memory > size-used {
		return false
	}
	r.bytes, r.memory = roomy-queued, size-used-untold
	return true
}

// wrote takes note of n bytes that are written. The caller holds out.mu.
func (r *room) wrote(n int) {
	bytes, memory := r.needs(n)
	r.bytes -= bytes
	r.memory -= memory
}

// needs returns what n bytes are at the most once TLS has sealed them, and the memory that
// the system needs for that.
func (r *room) needs(n int) (bytes, memory int) {
	records := 1 + n/recordSize
	bytes = n + records*recordOverhead
	return bytes, bytes + (records+bytes/max(1, r.packet))*packetMemory
}

// stale has the system be asked again: something was read, and TLS may have answered it.
func (r *room) stale() { r.told.Store(false) }
