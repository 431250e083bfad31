package stream

import (
	"crypto/tls"
	"errors"
	"net"
)

// rawConn is the connection of a detached stream, as the system has it, or a stream
// that was taken from one. Its owner calls either discard, if the stream is not detached after all, or watch,
// and then write and close. No method blocks. None is safe for concurrent use.
type rawConn interface {
	// discard releases what open has taken and leaves the connection as it is.
	discard()
	// watch has the poller tell w what becomes of the connection.
	watch(w watcher)
	// write writes as much of c as the connection takes, and returns how many
	// bytes that is. It does not change c. After errFull w.onWritable is called
	// when the connection takes more. Any other error means that the connection
	// is broken.
	write(c *chunk) (int, error)
	// close closes the connection. If hard is set, bytes that were written but
	// not sent yet are thrown away; otherwise the system still sends them.
	close(hard bool)
}

// watcher is told by a poller what becomes of a connection. Its methods are safe
// for concurrent use and do not block.
type watcher interface {
	onWritable() // the connection was full and takes bytes again
	onHangup()   // the client has closed the connection
}

// inputWatcher is a watcher that is told, too, that the client has sent something.
type inputWatcher interface {
	watcher
	onReadable()
}

// connWatch is a watch on a connection that somebody else owns.
type connWatch interface {
	// stop ends the watch. It may be called after the connection was closed.
	stop()
}

// errFull is the error of a rawConn that takes no more bytes for now.
var errFull = errors.New("the send buffer is full")

// poller opens raw connections and tells watchers what becomes of connections.
// open and watch are safe for concurrent use.
type poller interface {
	// open makes a rawConn with a file descriptor of its own: the owner of conn
	// may close it while the rawConn is in use.
	open(conn *net.TCPConn) (rawConn, error)
	// openTLS makes a rawConn that has conn, which its owner must not use any more once
	// the rawConn is watched.
	openTLS(conn *tls.Conn) (rawConn, error)
	// watch tells w what becomes of conn, which its owner goes on using, until
	// the watch is stopped.
	watch(conn *net.TCPConn, w watcher) (connWatch, error)
	// run tells the watchers, until close is called.
	run()
	// close stops run. Every rawConn must have been closed.
	close()
}
