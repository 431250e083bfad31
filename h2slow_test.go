package evstream

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// slowClient is a client over HTTP/2 that does not read two of its streams.
type slowClient struct {
	*h2client
	renews bool         // it allows more on the connection, and on the other one
	reset  chan uint32  // its streams that were reset; closed when it has read all
	rest   string       // of the other one: what was read after the last event
	events atomic.Int64 // of the other one, in order
}

const (
	slowSize   = 2 << 10 // of an event
	slowBefore = 300     // events before there are slow clients
	slowEvents = 2_800   // all: together more than windows and buffers hold
)

// openSlow opens a connection with streams 1 and 3, which it will not read, and 5, which it
// may read.
func openSlow(t *testing.T, address string, renews bool, settings ...http2.Setting) *slowClient {
	t.Helper()
	c := &slowClient{h2client: dialH2(t, address, settings...), renews: renews, reset: make(chan uint32, 3)}
	c.events.Store(slowBefore)
	for id := uint32(1); id <= 5; id += 2 {
		c.ask(c.framer, id, "GET", "/live/a", true)
		c.awaitData(id)
	}
	return c
}

// read reads what there is until the connection ends.
func (c *slowClient) read() {
	defer close(c.reset)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			c.reset <- f.StreamID
		case *http2.DataFrame:
			if !c.renews || f.Length == 0 {
				continue
			}
			_ = c.framer.WriteWindowUpdate(0, f.Length)
			if f.StreamID == 5 {
				_ = c.framer.WriteWindowUpdate(5, f.Length)
				c.count(string(f.Data()))
			}
		}
	}
}

// count counts the events in what was read, as long as they come in order.
func (c *slowClient) count(read string) {
	frames := strings.Split(c.rest+read, "\n\n")
	c.rest = frames[len(frames)-1]
	for _, frame := range frames[:len(frames)-1] {
		if strings.Contains(frame, fmt.Sprintf("\ndata: %dx", c.events.Load())) {
			c.events.Add(1)
		}
	}
}

// TestSlowReadersBesideOthersOverHTTP2 has clients that do not read some of their streams, or all,
// beside others, whose streams are in part detached and in part attached: these get each event.
// The slow ones cost next to no memory, and are ended after the write timeout.
func TestSlowReadersBesideOthersOverHTTP2(t *testing.T) {
	_, port, _ := strings.Cut(freeAddress(t), ":")
	useTLS(t)
	load(t, overTLS(port, "\tevstream {\n\t\thistory 200 1h 1MiB\n\t}", "\t\tallow anyone all **\n\t\twrite_timeout 5s"))
	url := "https://localhost:" + port + "/live/a"
	awaitTLS(t, url, 2)
	var readers []*caddyStream
	var clients []*http.Client
	for range 4 {
		client = &http.Client{Transport: &http.Transport{ // a connection of its own
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, ForceAttemptHTTP2: true,
		}}
		clients = append(clients, client)
		for range 10 {
			readers = append(readers, subscribe(t, url))
		}
	}
	h := theHub(t, "default")
	data := strings.Repeat("x", slowSize)
	publish := func(n int) {
		t.Helper()
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(fmt.Sprint(n, data))}}
		if _, err := h.Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	const together = 50 // events, before all have read them
	var starved *slowClient
	goOn := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			publish(n)
			if n%together != together-1 {
				continue
			}
			for i, s := range readers {
				for m := n + 1 - together; m <= n; m++ {
					if got := s.next(); got != fmt.Sprint(m, data) {
						t.Fatalf("reader %d: event %d begins with %.20q", i, m, got)
					}
				}
			}
			if starved != nil {
				eventually(t, "the stream beside two that are not read", func() bool { return starved.events.Load() > int64(n) })
			}
			if n%500 == together-1 { // other requests go on
				for _, c := range clients {
					answer, err := c.Get("https://localhost:" + port + "/plain")
					if err != nil {
						t.Fatal(err)
					}
					_ = answer.Body.Close()
				}
			}
		}
	}
	goOn(0, slowBefore) // all memory that the others need is in use

	address := "127.0.0.1:" + port
	large := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 29}
	stopped, unread := openSlow(t, address, false, large), openSlow(t, address, false, large)
	starved = openSlow(t, address, true)
	// What stops the writes is the window of a stream, that of a connection, or TCP.
	unread.must(unread.framer.WriteWindowUpdate(0, 1<<29))
	unread.must(unread.conn.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10))
	served := func(detached bool) int { return servedOver(t, 2, detached) }
	eventually(t, "the streams", func() bool { return served(true) == 4*8+9 && served(false) == 4*2 })
	go starved.read()
	go stopped.read()

	goroutines, heap := runtime.NumGoroutine(), heapOf()
	goOn(slowBefore, slowEvents)
	slow := func() uint64 { return h.Stats().Disconnects[stream.ReasonSlow] }
	if grown := heapOf() - heap; grown > 4<<20 {
		t.Errorf("%d bytes are kept of %d bytes of events", grown, (slowEvents-slowBefore)*slowSize)
	}
	eventually(t, "few goroutines", func() bool { return runtime.NumGoroutine()-goroutines <= 20 })
	// Two streams of the first, and all three of the others.
	eventually(t, "the slow streams to be ended", func() bool { return slow() == 2+3+3 })
	for name, c := range map[string]*slowClient{"starved": starved, "stopped": stopped} {
		for range map[bool]int{true: 2, false: 3}[c.renews] {
			if id := <-c.reset; id == 0 || c.renews && id == 5 {
				t.Errorf("%s: stream %d is reset", name, id)
			}
		}
	}
	if _, err := unread.conn.NetConn().Write([]byte("x")); err == nil {
		eventually(t, "the end of the connection that is not read", func() bool {
			_, err := unread.conn.NetConn().Write([]byte("x"))
			return err != nil
		})
	}
	if n := served(true) + served(false); n != len(readers)+1 {
		t.Errorf("%d streams are left, not %d", n, len(readers)+1)
	}
	publish(slowEvents)
	for _, s := range readers {
		s.expect(fmt.Sprint(slowEvents, data))
	}
}
