package h2front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// parksAtOnce has a server go as soon as it has nothing to do.
func parksAtOnce(s *testServer) { s.options.ParkAfter = time.Millisecond }

// parked opens a stream on a connection of its own, which is taken, and waits until there is
// no server any more.
func parked(t testing.TB, configure ...func(*testServer)) (*raw, *taken, *Conn, *testServer) {
	t.Helper()
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"), append([]func(*testServer){parksAtOnce}, configure...)...)
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	c.must(c.framer.WritePing(false, [8]byte{}))
	if f, ok := c.next().(*http2.PingFrame); !ok || !f.IsAck() { // it has answered the settings by then
		t.Fatalf("read %v, want the answer of a PING", f)
	}
	goes(t, front)
	return c, s, front, server
}

// served makes a request and reads its answer.
func (c *raw) served(id uint32) {
	c.t.Helper()
	c.request(id, "/plain")
	if f, ok := c.next().(*http2.MetaHeadersFrame); !ok || f.StreamID != id || f.PseudoValue("status") != "200" {
		c.t.Fatalf("read %v, want HEADERS of stream %d", f, id)
	}
	c.data(id, "plain", true)
}

func TestAParkedConnectionIsServedAgain(t *testing.T) {
	t.Parallel()
	c, s, front, _ := parked(t)
	for id := uint32(3); id < 30; id += 2 {
		s.write(t, "event", false)
		c.data(1, "event", false)
		c.served(id)
		goes(t, front)
	}
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.served(31) // of a connection without a stream
}

// TestSettingsAreKept has the windows of streams be what the client said before its connection
// was parked, or says then.
func TestSettingsAreKept(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 2)
	server := startServer(t, takes(streams, "opening"), parksAtOnce)
	c := server.dial(t, allowance, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 30_000})
	c.pings(1) // the server may answer settings together, and would then not be known to have answered all
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20_000}))
	c.request(1, "/")
	c.opens(1, "opening")
	wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	goes(t, front)
	c.request(3, "/big")
	c.next()
	sum := func(id uint32) (n int) {
		c.must(c.framer.WritePing(false, [8]byte{byte(id)}))
		for {
			switch f := c.next().(type) {
			case *http2.DataFrame:
				n += len(f.Data())
			case *http2.PingFrame:
				return n
			}
		}
	}
	n := 0
	for n < 20_000 {
		n += sum(3)
	}
	if n += sum(3); n != 20_000 {
		t.Fatalf("%d bytes in a window of 20,000", n)
	}
	c.must(c.framer.WriteRSTStream(3, http2.ErrCodeCancel))
	goes(t, front)
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70_000}))
	f, err := c.framer.ReadFrame()
	for err == nil && f.Header().Type != http2.FrameSettings {
		f, err = c.framer.ReadFrame()
	}
	if ack, ok := f.(*http2.SettingsFrame); err != nil || !ok || !ack.IsAck() {
		t.Fatalf("read %v, %v, want the answer of SETTINGS", f, err)
	}
	eventually(t, "a larger window", func() bool {
		front.mu.Lock()
		defer front.mu.Unlock()
		return front.initial == 70_000
	})
}

func TestAParkedConnectionLeaves(t *testing.T) {
	t.Parallel()
	c, s, front, server := parked(t)
	front.Leave()
	server.shutDown(t)
	c.leaves(1)
	c.request(3, "/plain") // is not served, as the client was told
	c.must(c.framer.WritePing(false, [8]byte{1}))
	if f, ok := c.next().(*http2.PingFrame); !ok || !f.IsAck() {
		t.Fatalf("read %v, want the answer of a PING", f)
	}
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.ends()
}

func TestAParkedConnectionWithoutStreamsLeaves(t *testing.T) {
	t.Parallel()
	c, s, front, _ := parked(t)
	s.write(t, "last", true)
	c.data(1, "last", true)
	front.Leave()
	c.leaves(1)
	c.ends()
}

// TestAServerComesDuringAShutdown has all servers be told to leave while one is about to come,
// which is not among them.
func TestAServerComesDuringAShutdown(t *testing.T) {
	t.Parallel()
	var front *Conn
	calls := 0
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"), parksAtOnce, func(s *testServer) {
		s.before = func(c *Conn) {
			if calls++; calls == 2 {
				front = c
				c.Leave()
			}
		}
	})
	c := server.dial(t, allowance)
	c.request(1, "/")
	c.opens(1, "opening")
	s := wait(t, streams, "stream")
	goes(t, wait(t, server.fronts, "connection"))
	c.request(3, "/plain")
	answered, last := false, uint32(0)
	for last == 0 || last == 3 && !answered {
		switch f := c.next().(type) {
		case *http2.GoAwayFrame:
			if last = f.LastStreamID; f.ErrCode != http2.ErrCodeNo {
				t.Fatalf("read %v", f)
			}
		case *http2.DataFrame:
			answered = f.StreamID == 3 && f.StreamEnded()
		}
	}
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.ends()
	if front == nil {
		t.Fatal("no second server has come")
	}
}

func TestAParkedConnectionThatIsIdleIsClosed(t *testing.T) {
	t.Parallel()
	c, s, front, _ := parked(t, endsLate)
	front.endSoon()
	s.write(t, "last", true)
	c.data(1, "last", true)
	c.leaves(1)
	c.ends()
}

// TestTheClientLeavesAParkedConnection has the client go, by a word or without one.
func TestTheClientLeavesAParkedConnection(t *testing.T) {
	t.Parallel()
	for name, goes := range map[string]func(*raw){
		"by GOAWAY": func(c *raw) {
			c.must(c.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
			c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		},
		"by the end of the connection": func(c *raw) { _ = c.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s, _, _ := parked(t)
			goes(c)
			wait(t, s.over, "hangup")
		})
	}
}

// TestUploadsOverAParkedConnection has a client send more than its window at once, again and
// again: a server that comes allows it what the one before would have.
func TestUploadsOverAParkedConnection(t *testing.T) {
	t.Parallel()
	streams := make(chan *taken, 1)
	server := startServer(t, takes(streams, "opening"), parksAtOnce)
	client := server.client(t)
	events := server.get(t, client, "/")
	reads(t, events.Body, "opening")
	s := wait(t, streams, "stream")
	front := wait(t, server.fronts, "connection")
	sum := 0
	for i := range 40 {
		goes(t, front)
		body := bytes.Repeat([]byte{byte(i)}, 100_000+i)
		sum += len(body)
		answer := server.post(t, client, "/echo", body)
		if !bytes.Equal(answer, body) {
			t.Fatalf("echo %d: %d bytes", i, len(answer))
		}
		s.write(t, "event", false)
		reads(t, events.Body, "event")
	}
	if sum < 3<<20 {
		t.Fatalf("%d bytes are less than a window", sum)
	}
	front.mu.Lock()
	credit := front.credit
	front.mu.Unlock()
	if credit > 1<<20 || credit < 1<<20-100_000 {
		t.Fatalf("the client may send %d bytes", credit)
	}
}

// post makes a request with a body, and headers that are different each time.
func (s *testServer) post(t testing.TB, client *http.Client, path string, body []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for range rand.IntN(5) {
		req.Header.Set(fmt.Sprintf("X-Header-%d", rand.IntN(30)), strings.Repeat("v", rand.IntN(400)))
	}
	answer, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Error(err)
	}
	return got
}

// TestPagesOverAParkedConnection has streams be written to all the time, while requests come
// at any moment: when a server has just gone, when the next one is about to come, and one after
// the other with pauses that are about as long as it takes for a server to go.
func TestPagesOverAParkedConnection(t *testing.T) {
	t.Parallel()
	const requests = 200
	streams := make(chan *taken, 3)
	moment := make(chan struct{}, 1)
	now := func() {
		select {
		case moment <- struct{}{}:
		default:
		}
	}
	var gone atomic.Int32
	server := startServer(t, takes(streams, "opening"), func(s *testServer) {
		s.options.ParkAfter = 100 * time.Microsecond
		s.before = func(*Conn) { now() }
		s.after = func() { gone.Add(1); now() }
	})
	client := server.client(t)
	var done sync.WaitGroup
	defer done.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3 {
		events := server.get(t, client, "/")
		reads(t, events.Body, "opening")
		s := wait(t, streams, "stream")
		read := make(chan struct{}, 1)
		done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := s.tryWrite(fmt.Sprintf("%09d\n", i), false); err != nil {
					t.Error(err)
					return
				}
				<-read // so that it does nothing else but write
			}
			if err := s.tryWrite("", true); err != nil {
				t.Error(err)
			}
		})
		done.Go(func() {
			defer close(read)
			line := make([]byte, 10)
			for i := 0; ; i++ {
				if _, err := io.ReadFull(events.Body, line); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					return
				}
				if want := fmt.Sprintf("%09d\n", i); string(line) != want {
					t.Errorf("read %q, want %q", line, want)
					return
				}
				select {
				case read <- struct{}{}:
				default:
				}
			}
		})
	}
	var requesting sync.WaitGroup
	for range requests {
		for range 1 + rand.IntN(3) {
			requesting.Go(func() {
				body := make([]byte, rand.IntN(3000))
				if got := server.post(t, client, "/echo", body); len(got) != len(body) {
					t.Errorf("%d bytes, want %d", len(got), len(body))
				}
			})
		}
		requesting.Wait()
		if rand.IntN(2) == 0 {
			wait(t, moment, "server that goes or comes")
		}
	}
	goes(t, wait(t, server.fronts, "connection"))
	if gone := gone.Load(); gone < requests/20 {
		t.Errorf("a server has gone %d times in %d requests only", gone, requests)
	}
}

// TestTablesAreKept has a client change the size of its table, and pad and split its blocks.
func TestTablesAreKept(t *testing.T) {
	t.Parallel()
	c, _, front, _ := parked(t)
	for i, size := range []uint32{300, 0, 4096, 100, 100, 1000} {
		id := uint32(2*i + 3)
		c.enc.SetMaxDynamicTableSize(size)
		c.block.Reset()
		fields := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/plain"}}
		for j := range i {
			fields = append(fields, [2]string{fmt.Sprintf("x-%d", j), strings.Repeat("v", 40)})
		}
		for _, f := range fields {
			c.must(c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		block := c.block.Bytes()
		half := len(block) / 2
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: id, BlockFragment: block[:half], EndStream: true, PadLength: uint8(10 * i),
			Priority: http2.PriorityParam{Weight: uint8(i)},
		}))
		c.must(c.framer.WriteContinuation(id, true, block[half:]))
		if f, ok := c.next().(*http2.MetaHeadersFrame); !ok || f.StreamID != id || f.PseudoValue("status") != "200" {
			t.Fatalf("size %d: read %v, want HEADERS of stream %d", size, f, id)
		}
		c.data(id, "plain", true)
		goes(t, front)
	}
}
