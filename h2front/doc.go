// Package h2front stands between an HTTP/2 server and the connection of its client,
// and takes single streams from the server while all others go on.
//
// The handler of a stream answers as ever. Before it begins it asks Conn.Take for a
// Stream; when it has written, and flushed, what the answer begins with, it writes and
// flushes Stream.Marker, and returns. The Conn, which sees the frames of both sides in the
// clear, learns by the marker which stream it is, and drops it, and the frame with which the
// server ends the stream. To the server the request is over, and all that it held for it
// is freed; to the client the stream is open, and Stream.Write goes on with it.
//
// What is the client's for a stream that was taken goes to that Stream: its windows,
// its reset. All else passes: as long as nothing is taken the server and the client
// see what they would see without a Conn.
//
// All streams share the window of the connection, and the server does not know of what
// those that were taken have sent. So it is not told of what the client allows until that
// is repaid; and where it wants to send more than the client allows, its write waits. That
// is when the client has left all of its window unread, and no data of any stream can be
// sent. From a client that allows hardly more than the 65,535 bytes at the beginning, which would
// be often in that state, nothing is taken.
//
// A connection of which all open streams were taken needs no server. After a while it is parked: the
// server reads the end of the connection, and goes, and with it its two goroutines and its buffers.
// What the client says then is read by the goroutine that called Conn.Serve. Resets, windows
// and some PING frames need no server. With anything else a new one comes, which is told what
// the client has told the one before (its settings, the windows, the dynamic table of HPACK), and
// whose answers to that the client is not sent. It decides on all that follows, also on what
// is wrong.
package h2front
