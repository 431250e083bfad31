// Package tcpsock asks the system what it has in the buffers of a TCP socket, for those
// who must not wait for a client though they write through a connection whose Write
// waits. There is nothing in it on other systems than Linux.
package tcpsock
