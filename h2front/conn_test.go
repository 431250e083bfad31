package h2front

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// shutDown has the HTTP/2 server leave all connections.
func (s *testServer) shutDown(t *testing.T) {
	t.Helper()
	if err := s.control.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestStreamsOutliveTheServer(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	server.shutDown(t)
	c.leaves(1)
	goes(t, front)
	s.write(t, "after", false)
	c.data(1, "after", false)
	// Who lingers answers what must be answered, and no more.
	c.request(3, "/")
	c.must(c.framer.WriteData(3, true, []byte("of nobody")))
	c.must(c.framer.WritePing(false, [8]byte{1, 2, 3}))
	if f, ok := c.next().(*http2.PingFrame); !ok || !f.IsAck() || f.Data != [8]byte{1, 2, 3} {
		t.Fatalf("read %v, want the answer of a PING", f)
	}
	for _, settings := range [][]http2.Setting{nil, {{ID: http2.SettingInitialWindowSize, Val: 70_000}, {ID: http2.SettingMaxFrameSize, Val: 20_000}}} {
		c.must(c.framer.WriteSettings(settings...))
		f, err := c.framer.ReadFrame()
		if ack, ok := f.(*http2.SettingsFrame); err != nil || !ok || !ack.IsAck() {
			t.Fatalf("read %v, %v, want the answer of SETTINGS", f, err)
		}
	}
	front.mu.Lock()
	initial := front.initial
	front.mu.Unlock()
	if initial != 70_000 {
		t.Fatalf("the initial window is %d", initial)
	}
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.ends()
}

func TestTheLastStreamEndsAConnectionThatLingers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*taken, *raw){
		"by its end":      func(s *taken, _ *raw) { s.End(true) },
		"by its reset":    func(s *taken, _ *raw) { s.End(false) },
		"by the client":   func(_ *taken, c *raw) { c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel)) },
		"by the hangup":   func(_ *taken, c *raw) { _ = c.conn.(*net.TCPConn).CloseWrite() },
		"by a long frame": func(_ *taken, c *raw) { _ = c.framer.WriteRawFrame(0xff, 0, 0, make([]byte, maxFrame+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			streams := make(chan *taken, 1)
			server := startServer(t, takes(streams, "opening"))
			c := server.dial(t, allowance)
			c.request(1, "/")
			c.opens(1, "opening")
			s := wait(t, streams, "stream")
			front := wait(t, server.fronts, "connection")
			server.shutDown(t)
			c.next()
			goes(t, front)
			end(s, c)
			if _, err := io.Copy(io.Discard, c.conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
		})
	}
}

func TestAnErrorOfTheClientEndsAllStreams(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	c.must(c.framer.WriteRawFrame(0x6, 0, 0, []byte("short"))) // PING
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeFrameSize {
		t.Fatalf("read %v, want GOAWAY", f)
	}
	wait(t, s.over, "hangup")
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"), endsLate)
	c := server.dial(t, allowance)
	c.served(1)
	wait(t, server.fronts, "connection").endSoon()
	c.leaves(1)
	c.ends()
	// With a stream it is not idle.
	c = server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	eventually(t, "the server to have no stream", func() bool {
		front.mu.Lock()
		defer front.mu.Unlock()
		return front.idle && s.open
	})
	front.mu.Lock()
	ends := front.idleEnd != nil
	front.mu.Unlock()
	if ends {
		t.Fatal("a connection with a stream is taken for idle")
	}
	front.endSoon()
	s.write(t, "after", false)
	c.data(1, "after", false)
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.leaves(1)
}

// TestAClientThatReadsNothing has one client stall. Writing to it never blocks, and ends.
func TestAClientThatReadsNothing(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		front := r.Context().Value(frontKey{}).(*Conn)
		front.mu.Lock()
		front.limit = 0
		front.mu.Unlock()
		stream := front.Take(300 * time.Millisecond)
		s := &taken{Stream: stream, writes: make(chan struct{}, 1), over: make(chan struct{})}
		w.(http.Flusher).Flush()
		s.Watch(s)
		_, _ = w.Write(stream.Marker())
		w.(http.Flusher).Flush()
		streams <- s
	})
	c := server.dial(t, 1<<31-1-defaultWindow, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.must(c.conn.(*net.TCPConn).SetReadBuffer(4096))
	c.request(1, "/")
	if _, ok := c.next().(*http2.MetaHeadersFrame); !ok {
		t.Fatal("no header")
	}
	s := wait(t, streams, "stream")
	block := make([]byte, maxPiece)
	for {
		_, err := s.Write(nil, block, false)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if err != nil {
			select {
			case <-s.writes:
			case <-s.over:
			case <-time.After(patience):
				t.Fatal("the stream did not end in time")
			}
		}
	}
	wait(t, s.over, "hangup")
}

func TestAStreamWithoutItsMarkerIsOver(t *testing.T) {
	over := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		front := r.Context().Value(frontKey{}).(*Conn)
		s := &taken{Stream: front.Take(time.Millisecond), writes: make(chan struct{}, 1), over: make(chan struct{})}
		s.Watch(s)
		_, _ = io.WriteString(w, "something else")
		over <- s
	})
	c := server.dial(t, allowance)
	c.request(1, "/")
	s := wait(t, over, "stream")
	wait(t, s.over, "hangup")
	if _, ok := c.next().(*http2.MetaHeadersFrame); !ok {
		t.Fatal("no header")
	}
	c.data(1, "something else", true)
}

// TestHeaderBlocksAreNotInterrupted has responses with headers of several frames beside a
// stream that is written all the time.
func TestHeaderBlocksAreNotInterrupted(t *testing.T) {
	streams := make(chan *taken, 1)
	long := strings.Repeat("v", 40<<10)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("X-Long", long)
			return
		}
		streams <- take(w, r, "opening")
	})
	c := server.dial(t, allowance)
	c.framer.ReadMetaHeaders = nil // frames as they are
	c.request(1, "/")
	s := wait(t, streams, "stream")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = s.Write([]byte("x"), nil, false)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	between := 0
	for id := uint32(3); id < 63; id += 2 {
		c.request(id, "/long")
		for ended := false; !ended; {
			switch f := c.next().(type) {
			case *http2.HeadersFrame:
				ended = f.StreamID == id && f.HeadersEnded()
			case *http2.ContinuationFrame: // the framer checks what comes before it
				ended = f.StreamID == id && f.HeadersEnded()
			case *http2.DataFrame:
				between++
			}
		}
		c.must(c.framer.WriteWindowUpdate(0, 1<<16))
		c.must(c.framer.WriteWindowUpdate(1, 1<<16))
	}
	if between == 0 {
		t.Fatal("the stream was not written meanwhile")
	}
}
