package stream

import (
	"errors"
	"net"
)

// line is a connection as those see it who write detached streams. Its methods do
// not wait, and are called by one goroutine, but for watch, which comes first,
// when the connection has been taken over, or drop, when it is not.
type rawConn interface {
	// drop lets go of the connection, which is not touched, in place of watch.
	discard()
	// watch has w told what becomes of the connection.
	watch(w watcher)
	// write writes as much of frames and then of events as there is room for,
	// and returns how much that is. errFull says that there is no more room;
	// k.room is called when there is.
	write(frames, events []byte) (int, error)
	// close closes the connection. What was written and not sent yet is thrown
	// away if hard is set, else the system goes on to send it.
	close(hard bool)
}

// watcher is told what becomes of a connection. Its methods are safe for
// concurrent use and return at once.
type watcher interface {
	onWritable() // there is room again, where there was none
	onHangup()   // the client has left
}

// watched is a connection whose watcher is told.
type connWatch interface{ stop() }

// errFull is the error of a line that has no room now.
var errFull = errors.New("there is no room")

// poller makes lines and tells sockets what becomes of theirs.
type poller interface {
	// open makes a line of a connection, which remains its owner's to close:
	// to the line that makes no difference.
	open(conn *net.TCPConn) (rawConn, error)
	// watch tells w what becomes of a connection, until it is forgotten.
	watch(conn *net.TCPConn, w watcher) (connWatch, error)
	run()
	// close stops it; no line is open any more.
	close()
}
