package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports are below those that the system gives to clients: a client could have got
// the port of a server that is restarted, and one that connects to a port where
// nobody listens could even reach itself.
const (
	firstPort = 10_000
	somePorts = 10_000
)

// ports counts the ports that were used: none is used again before all were.
var ports atomic.Int32

func init() { ports.Store(rand.Int32N(somePorts)) } //nolint:gosec // it keeps test processes apart, and is no secret

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

// FreePorts finds a port of localhost on which nobody listens, as on those that
// lie so far above it: less than 50, for a script that counts upwards.
func FreePorts(t testing.TB, above ...int) int {
	t.Helper()
	const first, step, steps = 20_000, 50, 200
	from := rand.IntN(steps) //nolint:gosec // it keeps test processes apart, and is no secret
	for i := range steps {
		base := first + (from+i)%steps*step
		free := true
		for _, n := range above {
			l, err := net.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(base+n)))
			if free = free && err == nil; err == nil {
				_ = l.Close()
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no ports are free")
	return 0
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
