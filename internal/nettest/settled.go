// Package nettest helps tests with what happens on the network.
package nettest

import (
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// Settled returns when the servers that a reload has replaced no longer listen.
// Caddy answers before that: for a moment two servers accept the connections to
// an address, and the old one closes its share of them without an answer. pid
// is the Caddy's process. Systems other than Linux do not say who listens: there
// the moment may be met.
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
