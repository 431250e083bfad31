package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports are given out below those that the system gives to clients: one of
// these could have the port of a server that is restarted, and one that
// connects to a port where nobody listens might even reach itself.
const (
	firstPort = 10_000
	somePorts = 10_000
)

// ports counts the ports given out: none is given twice before all were.
var ports atomic.Int32

func init() { ports.Store(rand.Int32N(somePorts)) } //nolint:gosec // it spreads test processes, and is no secret

// freePort finds a port of 127.0.0.1 on which nobody listens.
func freePort(t testing.TB) int {
	t.Helper()
	for range somePorts {
		port := firstPort + int(uint32(ports.Add(1))%somePorts)
		l, err := net.Listen("tcp", address(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
