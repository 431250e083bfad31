package h2front

import (
	"errors"
	"testing"
)

// TestAStreamHasItsTurn has a stream written while somebody else writes to the connection: what
// it has comes before anything that is written next, and it is told.
func TestAStreamHasItsTurn(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	s.write(t, "open;", false) // the server has ended it
	c.data(1, "open;", false)
	for range 100 {
		front.out.mu.Lock()
		if n, err := s.Write([]byte("one;"), nil, false); n != 4 || err != nil {
			t.Fatalf("%d bytes were taken, %v", n, err)
		}
		select {
		case <-s.writes: // of before
		default:
		}
		if n, err := s.Write([]byte("two;"), nil, false); n != 0 || !errors.Is(err, ErrFull) {
			t.Fatalf("%d bytes more were taken, %v", n, err)
		}
		front.release(false)
		wait(t, s.writes, "turn")
		s.write(t, "two;", false)
		c.data(1, "one;two;", false)
	}
	front.out.mu.Lock()
	s.write(t, "last", true)
	front.release(false)
	c.data(1, "last", true)
	if front.hasStreams() {
		t.Fatal("the stream is not over")
	}
}
