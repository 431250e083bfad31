package stream

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// The bound on a connection is that of the stream with the longest write timeout, and
// is there as long as it has a stream: setting and lifting it do not cross.
func TestTheBoundOfAConnectionIsThatOfAllItsStreams(t *testing.T) {
	conn, other := net.Pipe()
	defer conn.Close()
	defer other.Close()
	hs := h2conns{all: map[net.Conn]*h2conn{}}
	var calls []string
	note := func(what string) {
		if hs.mu.TryLock() {
			hs.mu.Unlock()
			t.Errorf("%s: another stream may begin or end meanwhile", what)
		}
		calls = append(calls, what)
	}
	begin := func(writeTimeout time.Duration) *h2conn {
		return hs.acquire(conn, nil, writeTimeout, func(_ net.Conn, d time.Duration) { note(fmt.Sprint(d)) })
	}
	end := func(h *h2conn) { hs.release(h, func(net.Conn) { note("lift") }) }

	first := begin(10 * time.Second)
	second := begin(time.Minute)
	third := begin(10 * time.Second)
	end(second)
	end(first)
	end(third)
	end(begin(time.Second))
	if want := []string{"10s", "1m0s", "lift", "1s", "lift"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
	if len(hs.all) != 0 {
		t.Errorf("%d connections are left", len(hs.all))
	}
}
