package evstream

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// h2flood is what a client sends beside a stream, on one connection.
type h2flood struct {
	settings []http2.Setting
	unread   bool // the client reads nothing until it has sent all
	send     func(c *h2client, frames *http2.Framer)
	end      string // how the connection may end, beside that it is served
	heap     int64  // the most that it may take; 0: 8 MiB
}

// h2floods are floods by their names. Streams of theirs begin with id 3.
var h2floods = map[string]h2flood{
	"resets of pages": {end: calm, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*2_000; id += 2 {
			c.ask(frames, id, "GET", "/plain", true)
			_ = frames.WriteRSTStream(id, http2.ErrCodeCancel)
		}
	}},
	"resets of streams": {end: calm, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*2_000; id += 2 {
			c.ask(frames, id, "GET", "/live/a", true)
			_ = frames.WriteRSTStream(id, http2.ErrCodeCancel)
		}
	}},
	"resets by the server": {end: calm, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*2_000; id += 2 {
			c.ask(frames, id, "GET", "/live/a", true)
			_ = frames.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) // of 0 bytes
		}
	}},
	"streams that overflow": {end: calm, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*1_000; id += 2 {
			c.ask(frames, id, "GET", "/live/a", true)
			_ = frames.WriteWindowUpdate(id, 1<<31-1)
		}
	}},
	"requests without an end": {unread: true, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*1_000; id += 2 {
			c.ask(frames, id, "POST", "/live/a", false)
		}
	}},
	"pings":           {end: "closed", send: func(_ *h2client, frames *http2.Framer) { pings(frames, 20_000) }},
	"pings unread":    {unread: true, end: "closed", send: func(_ *h2client, frames *http2.Framer) { pings(frames, 300_000) }},
	"settings":        {end: "closed", send: func(_ *h2client, frames *http2.Framer) { initialWindows(frames, 20_000) }},
	"settings unread": {unread: true, end: "closed", send: func(_ *h2client, frames *http2.Framer) { initialWindows(frames, 300_000) }},
	"windows": {send: func(_ *h2client, frames *http2.Framer) {
		for i := range uint32(20_000) {
			_ = frames.WriteWindowUpdate(i%2, 1)
		}
	}},
	"priorities": {send: func(_ *h2client, frames *http2.Framer) {
		for i := range uint32(20_000) {
			_ = frames.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 0, Weight: 1})
		}
	}},
	"unknown frames": {send: func(_ *h2client, frames *http2.Framer) {
		for i := range uint32(5_000) {
			_ = frames.WriteRawFrame(0xfe, 0xff, i, make([]byte, 100))
		}
	}},
	"a header block without an end": {end: "PROTOCOL_ERROR", send: func(c *h2client, frames *http2.Framer) {
		_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.header("GET", "/plain")})
		for range 20_000 {
			_ = frames.WriteContinuation(3, false, []byte{0x40, 1, 'x', 1, 'y'})
		}
	}},
	"data for a stream that is taken": {send: func(_ *h2client, frames *http2.Framer) {
		for range 2_000 {
			_ = frames.WriteData(1, false, make([]byte, 1000))
		}
	}},
	"windows of nothing": {
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}},
		send: func(c *h2client, frames *http2.Framer) {
			for id := uint32(3); id < 2*100; id += 2 {
				c.ask(frames, id, "GET", "/live/a", true)
			}
		},
	},
	"windows that are never renewed": {unread: true, heap: 60 << 20, send: func(c *h2client, frames *http2.Framer) {
		for id := uint32(3); id < 2*100; id += 2 {
			c.ask(frames, id, "GET", "/large", true) // half a megabyte
		}
	}},
}

// calm is how the server ends a connection of which it has too much to do.
const calm = "ENHANCE_YOUR_CALM"

// pings sends as many as the connection takes.
func pings(frames *http2.Framer, n int) {
	for i := range n {
		if frames.WritePing(false, [8]byte{byte(i), byte(i >> 8), 1}) != nil {
			return
		}
	}
}

// initialWindows changes what streams are allowed, up and down, and to nothing.
func initialWindows(frames *http2.Framer, n int) {
	for i := range n {
		if frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 1 << 20, 1, 1 << 16, 1<<30 - 1}[i%5]}) != nil {
			return
		}
	}
}

// TestFloodsOverHTTP2AreBounded has clients flood Caddy while streams over HTTP/2 are detached,
// and while they are attached, which is as Caddy is without evstream. Both end in the same ways,
// within the same bounds of memory and goroutines; afterwards nothing is left, and meanwhile
// another client is served.
func TestFloodsOverHTTP2AreBounded(t *testing.T) {
	useTLS(t)
	for _, delivery := range []string{"attached", "auto"} {
		t.Run(delivery, func(t *testing.T) {
			_, port, _ := strings.Cut(freeAddress(t), ":")
			load(t, overTLS(port, "", "\t\tallow anyone all **\n\t\tdelivery "+delivery))
			url := "https://localhost:" + port + "/live/a"
			awaitTLS(t, url, 2)
			other := subscribe(t, url)
			for name, flood := range h2floods {
				// Not by a request: its connection would be attached again.
				op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(name)}}
				if _, err := theHub(t, "default").Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
					t.Fatal(err)
				}
				other.expect(name)
				c := flood.cost(t, port, delivery)
				t.Logf("%s: %s, %d goroutines, %d KiB", name, c.end, c.goroutines, c.heap>>10)
				if c.end != "served" && c.end != flood.end {
					t.Errorf("%s: the connection ends with %s", name, c.end)
				}
				if !flood.bounds(c) {
					t.Errorf("%s: %d bytes and %d goroutines", name, c.heap, c.goroutines)
				}
			}
		})
	}
}

// bounds reports whether a flood costs no more than it may.
func (flood h2flood) bounds(c cost) bool {
	return c.heap <= max(flood.heap, 8<<20) && c.goroutines <= 600 // 250 streams have two each
}

// cost is what a flood takes while its connection is open, and how that ends.
type cost struct {
	end        string
	goroutines int
	heap       int64
}

// cost floods the server beside a stream, of which it waits for an event before.
func (flood h2flood) cost(t *testing.T, port, delivery string) (c cost) {
	t.Helper()
	before, heap := runtime.NumGoroutine(), heapOf()
	client := dialH2(t, "127.0.0.1:"+port, flood.settings...)
	client.ask(client.framer, 1, "GET", "/live/a", true)
	if flood.settings == nil {
		client.awaitData(1)
	}
	if delivery == "auto" && flood.settings == nil {
		eventually(t, "the stream to be detached", func() bool { return servedOver(t, 2, true) == 2 })
		eventually(t, "the connections to be parked", func() bool { return strings.Count(stacks(), "http2.(*serverConn).serve(") == 0 })
	}
	var read chan string
	if !flood.unread {
		read = client.readAll()
	}
	flood.send(client, client.buffered)
	_ = client.buffered.WritePing(false, lastPing)
	client.flush()
	if flood.unread {
		read = client.readAll()
	}
	select {
	case c.end = <-read:
	case <-time.After(patience):
		t.Fatal("the flood does not end")
	}
	for until := time.Now().Add(patience); ; { // what is about to end is none of the cost
		c.goroutines, c.heap = runtime.NumGoroutine()-before, heapOf()-heap
		if flood.bounds(c) || time.Now().After(until) {
			break
		}
	}
	_ = client.conn.NetConn().Close()
	eventually(t, "the sessions to end", func() bool { return theHub(t, "default").Stats().Streams == 1 })
	return c
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 4<<20)
	return string(b[:runtime.Stack(b, true)])
}

// heapOf is what is in use of the heap.
func heapOf() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
