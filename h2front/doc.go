// Package h2front stands between an HTTP/2 server and the connection of its client,
// and takes single streams from the server while all others go on.
//
// The handler of a stream answers as ever. Before it begins it asks Conn.Take for a
// Stream; when it has written, and flushed, what the answer begins with, it writes
// Stream.Marker and returns. The server ends the stream with the marker; the Conn,
// which sees the frames of both sides in the clear, drops that last frame. To the
// server the request is over, and all that it held for it is freed; to the client
// the stream is open, and Stream.Write goes on with it.
//
// What is the client's for a stream that was taken goes to that Stream: its windows,
// its reset. All else passes: as long as nothing is taken the server and the client
// see what they would see without a Conn, but for one thing. Of what the client lets
// the server send on the connection beyond the 65,535 bytes that it begins with, the
// Conn keeps up to a half, and 4 MiB, for the streams that it takes: what the server
// and those streams believe that they may send is together never more than what the
// client allows. From a client that allows no more nothing is taken.
package h2front
