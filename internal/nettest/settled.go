// Package nettest has helpers for tests about connections.
package nettest

import (
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// Settled waits until the servers that a reload of Caddy has replaced no longer
// listen. A reload is answered before that: for a moment two servers accept the
// connections to an address, and the old one closes its share without an answer.
// pid is the process of Caddy. On other systems than Linux it does not wait.
func Settled(t testing.TB, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		twice, err := sharedAddress(pid)
		if err != nil {
			t.Fatalf("looking for what listens: %v", err)
		}
		if twice == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("two servers listen on %s (hexadecimal)", twice)
		}
	}
}
