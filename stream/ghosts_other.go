//go:build !linux

package stream

import (
	"net"
	"time"
)

// setUserTimeout does nothing: other systems have no such option, or another one.
func setUserTimeout(*net.TCPConn, time.Duration) {}
