//go:build !linux

package stream

import "net"

// limitUnsentOf does nothing: other systems have no such option, or another one.
func limitUnsentOf(net.Conn) {}
