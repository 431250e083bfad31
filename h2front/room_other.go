//go:build !linux

package h2front

import "net"

// room is what is known of the room in the socket of a Conn: nothing.
type room struct{}

func (*room) wrote(int) {}
func (*room) stale()    {}

func descriptor(net.Conn) int { return -1 }

// hasRoom reports whether n bytes can be written without waiting for the client: that is
// not known here, so that every write is left to a goroutine.
func (*Conn) hasRoom(int) bool { return false }
