package h2front

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestTheWindowIsShared has a client that allows more only when it has read more than a half
// of what it allowed, as browsers do. A stream that was taken uses the window, and so does a
// download of the server; neither is kept from it, and both together never send more.
func TestTheWindowIsShared(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	const window = defaultWindow + allowance
	c := server.dial(t, allowance, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	left := window - len("opening") // what may be sent
	read := func(until func(id uint32, n int) bool) {
		t.Helper()
		for {
			f := c.next()
			d, ok := f.(*http2.DataFrame)
			if !ok {
				if _, ok := f.(*http2.MetaHeadersFrame); ok {
					continue
				}
				t.Fatalf("read %v", f)
			}
			if left -= int(d.Length); left < 0 {
				t.Fatalf("the client was sent %d bytes too many", -left)
			}
			if left < window/2 {
				c.must(c.framer.WriteWindowUpdate(0, uint32(window-left)))
				left = window
			}
			if until(d.StreamID, int(d.Length)) {
				return
			}
		}
	}
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	for range 3 {
		const size = 3 * window
		done := make(chan error, 1)
		go func() { done <- s.tryWrite(string(make([]byte, size)), false) }()
		got := 0
		read(func(_ uint32, n int) bool { got += n; return got == size })
		if err := wait(t, done, "write"); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = s.tryWrite(string(make([]byte, window)), false) }()
	c.request(3, "/big") // 4 MiB
	var sent [4]int
	read(func(id uint32, n int) bool {
		sent[id] += n
		return sent[1] == window && sent[3] == 64<<16
	})
}

// TestTheServerWaitsForTheWindow has the server believe in a window that a stream has used:
// it is sent nothing too much, and all of it when the client allows more.
func TestTheServerWaitsForTheWindow(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	const used = defaultWindow + allowance - len("opening") - 100
	s.write(t, string(make([]byte, used)), false)
	c.data(1, string(make([]byte, used)), false)
	c.request(3, "/big")
	if _, ok := c.next().(*http2.MetaHeadersFrame); !ok {
		t.Fatal("no header")
	}
	c.must(c.framer.WriteWindowUpdate(0, 5<<20))
	for got := 0; got < 64<<16; {
		d, ok := c.next().(*http2.DataFrame)
		if !ok || d.StreamID != 3 {
			t.Fatalf("read %v", d)
		}
		got += int(d.Length)
	}
	front := wait(t, server.fronts, "connection")
	front.mu.Lock()
	defer front.mu.Unlock()
	if want := int64(100 + 5<<20 - 64<<16); front.window != want || front.debt > 0 {
		t.Fatalf("the window is %d and not %d, with a debt of %d", front.window, want, front.debt)
	}
}
