package h2front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

const allowance = 1 << 20 // of a raw client, beyond the default

func TestATakenStreamGoesOnAfterItsHandler(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening;"))
	client := server.client(t)
	answer := server.get(t, client, "/")
	s := wait(t, streams, "stream")
	reads(t, answer.Body, "opening;")
	s.write(t, "first;", false)
	reads(t, answer.Body, "first;")
	large := strings.Repeat("0123456789", 100_000) // more than the windows and a frame
	done := make(chan error, 1)
	go func() { done <- s.tryWrite(large, false) }()
	reads(t, answer.Body, large)
	if err := wait(t, done, "write"); err != nil {
		t.Fatal(err)
	}
	plain := server.get(t, client, "/plain")
	reads(t, plain.Body, "plain")
	s.write(t, "last", true)
	if rest, err := io.ReadAll(answer.Body); err != nil || string(rest) != "last" {
		t.Fatalf("read %q, %v", rest, err)
	}
	if _, err := s.Write([]byte("more"), nil, false); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after the end: %v", err)
	}
}

func TestTheMarkerIsNeverSent(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	s.write(t, "a", false)
	c.data(1, "a", false)
	s.End(true)
	c.data(1, "", true)
}

func TestAStreamEnds(t *testing.T) {
	for _, good := range []bool{true, false} {
		t.Run(fmt.Sprint(good), func(t *testing.T) {
			streams := make(chan *taken, 1)
			server := startServer(t, takes(streams, "opening"))
			c := server.dial(t, allowance)
			c.request(1, "/")
			c.opens(1, "opening")
			s := wait(t, streams, "stream")
			s.End(good)
			s.End(!good) // does nothing
			if good {
				c.data(1, "", true)
			} else if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != http2.ErrCodeInternal {
				t.Fatalf("read %v, want a reset", f)
			}
			c.request(3, "/")
			c.opens(3, "opening")
		})
	}
}

func TestTheClientResetsAStream(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	first := wait(t, streams, "stream")
	c.request(3, "/")
	c.opens(3, "opening")
	second := wait(t, streams, "stream")
	c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	wait(t, first.over, "hangup")
	if _, err := first.Write([]byte("a"), nil, false); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after the reset: %v", err)
	}
	second.write(t, "b", false)
	c.data(3, "b", false)
	_ = c.conn.Close()
	wait(t, second.over, "hangup")
}

func TestAResetOfTheServerEndsAStream(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	c.must(c.framer.WriteData(1, false, []byte("after the end of the request")))
	wait(t, s.over, "hangup")
	if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != http2.ErrCodeStreamClosed {
		t.Fatalf("read %v, want a reset", f)
	}
}

func TestWindowsAreKept(t *testing.T) {
	streams, told := make(chan *taken, 1), make(chan struct{})
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-told
		takes(streams, "opening")(w, r)
	})
	c := server.dial(t, 80_000, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20_000})
	c.must(c.framer.WriteWindowUpdate(0, 1))
	c.request(1, "/")
	c.must(c.framer.WriteWindowUpdate(1, 7)) // before the stream is taken
	c.pings(1)
	close(told)
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	send := func(n int) (sent int) {
		for {
			got, err := s.Write(nil, make([]byte, n-sent), false)
			sent += got
			if sent == n {
				return sent
			}
			if errors.Is(err, ErrFull) {
				select { // unless the connection was only busy
				case <-s.writes:
				default:
					front := s.conn
					front.mu.Lock()
					hungry := s.hungry
					front.mu.Unlock()
					if hungry {
						return sent
					}
				}
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(n int) {
		t.Helper()
		for n > 0 {
			f, ok := c.next().(*http2.DataFrame)
			if !ok || f.StreamID != 1 || f.Length > 16384 {
				t.Fatalf("read %v", f)
			}
			n -= int(f.Length)
		}
		if n != 0 {
			t.Fatalf("%d bytes too many", -n)
		}
	}
	expect := func(want int) {
		t.Helper()
		if got := send(100_000); got != want {
			t.Fatalf("%d bytes were taken, want %d", got, want)
		}
		read(want)
	}
	expect(20_000 + 7 - len("opening"))
	c.must(c.framer.WriteWindowUpdate(1, 500))
	wait(t, s.writes, "window")
	expect(500)
	// A smaller initial window makes that of the stream negative.
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 19_000}))
	c.must(c.framer.WriteWindowUpdate(1, 1300))
	c.pings(2)
	expect(300)
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 19_200}))
	wait(t, s.writes, "window")
	expect(200)
	// The window of the connection, of which the opening has taken some.
	c.must(c.framer.WriteWindowUpdate(1, 1<<20))
	wait(t, s.writes, "window")
	left := defaultWindow + 80_001 - (20_007 + 500 + 300 + 200)
	expect(min(left, 100_000))
	expect(left - 100_000)
	c.must(c.framer.WriteWindowUpdate(0, 3000))
	wait(t, s.writes, "window")
	expect(3000)
}

func TestNothingIsTakenFromASmallWindow(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		streams <- take(w, r, "opening")
		_, _ = io.WriteString(w, "untaken")
	})
	for name, c := range map[string]*raw{
		"of the connection": server.dial(t, 0),
		"of streams":        server.dial(t, allowance, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10_000}),
	} {
		c.t = t
		c.request(1, "/")
		if s := wait(t, streams, "answer"); s != nil {
			t.Fatalf("%s: a stream was taken", name)
		}
		if _, ok := c.next().(*http2.MetaHeadersFrame); !ok {
			t.Fatal("no header")
		}
		c.data(1, "untaken", true)
	}
}

func TestTooLargeAWindowResetsAStream(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	c.must(c.framer.WriteWindowUpdate(1, 1<<31-1))
	wait(t, s.over, "hangup")
	if f, ok := c.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 1 || f.ErrCode != http2.ErrCodeFlowControl {
		t.Fatalf("read %v, want a reset", f)
	}
}

func TestOnlySoManyStreamsAreTaken(t *testing.T) {
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"))
	c := server.dial(t, allowance)
	for i := range uint32(MaxTaken) {
		c.request(2*i+1, "/")
		c.opens(2*i+1, "opening")
		if wait(t, streams, "stream") == nil {
			t.Fatalf("stream %d was not taken", i)
		}
	}
	c.request(101, "/")
	if wait(t, streams, "answer") != nil {
		t.Fatal("one too many was taken")
	}
	if f, ok := c.next().(*http2.MetaHeadersFrame); !ok || !f.StreamEnded() {
		t.Fatalf("read %v", f)
	}
	c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	c.request(103, "/")
	c.opens(103, "opening")
	if wait(t, streams, "stream") == nil {
		t.Fatal("no stream was taken in place of the one that was reset")
	}
}

// TestManyAtATime has taken streams, downloads and uploads share a connection.
func TestManyAtATime(t *testing.T) {
	streams := make(chan *taken, MaxTaken)
	server := startServer(t, takes(streams, "opening;"))
	client := server.client(t)
	const events = 300
	var all sync.WaitGroup
	for i := range 4 {
		answer := server.get(t, client, "/")
		s := wait(t, streams, "stream")
		reads(t, answer.Body, "opening;")
		all.Go(func() {
			for n := range events {
				if err := s.tryWrite(fmt.Sprintf("%d.%d%s;", i, n, strings.Repeat("y", n*i)), n == events-1); err != nil {
					t.Errorf("stream %d, event %d: %v", i, n, err)
					return
				}
			}
		})
		all.Go(func() {
			var want strings.Builder
			for n := range events {
				fmt.Fprintf(&want, "%d.%d%s;", i, n, strings.Repeat("y", n*i))
			}
			if got, err := io.ReadAll(answer.Body); err != nil || string(got) != want.String() {
				t.Errorf("stream %d: read %d bytes, %v; want %d", i, len(got), err, want.Len())
			}
		})
	}
	for range 3 {
		all.Go(func() {
			answer := server.get(t, client, "/big")
			if n, err := io.Copy(io.Discard, answer.Body); err != nil || n != 64<<16 {
				t.Errorf("download: %d bytes, %v", n, err)
			}
		})
		all.Go(func() {
			body := strings.Repeat("upload", 50_000)
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.address+"/echo", strings.NewReader(body))
			answer, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			if got, err := io.ReadAll(answer.Body); err != nil || string(got) != body {
				t.Errorf("upload: %d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}
