// Package parked keeps TLS connections for which no goroutine waits: those of detached
// streams over HTTP/1.1. It knows connections, and nothing of what is written to them. It
// works on Linux only; there is nothing in it on other systems.
//
// A tls.Conn waits in Write for a client that does not read, and a write that is given a
// deadline breaks the connection when that has passed. So Conn.Write asks the system
// beforehand how much room there is, and writes no more.
//
// What the client says, who must say nothing more, has to be read all the same: a
// KeyUpdate is to be answered, and a close_notify is the end. Whoever watches the socket
// calls Conn.Readable when there is input, and the Group has one goroutine for all its
// connections that reads then. A Read that finds no data of the client's waits for its
// deadline, since a deadline that has passed keeps package net from reading at all. So
// that goroutine may wait, for a moment; nobody waits for it. What crypto/tls has read of
// a record is kept when the deadline passes.
package parked
