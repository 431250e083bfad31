package stream

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// bubble runs a test in synctest bubbles: for attached streams, for attached
// streams that share an HTTP/2 connection, and for detached streams: with a connection of
// their own, and taken from one. serve takes the mode from the test's name.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	for _, mode := range []string{"attached", "shared", "detached", "taken"} {
		t.Run(strings.TrimPrefix(name+"/"+mode, "/"), func(t *testing.T) { synctest.Test(t, f) })
	}
}

// client is the ResponseWriter of an attached stream, or the rawConn of a
// detached one, and keeps what was flushed. It stalls on demand: Write then
// blocks until the write deadline, write returns errFull.
type client struct {
	mu        sync.Mutex
	header    http.Header
	status    int
	unsent    []byte
	writes    int
	frames    []string // one for each flush
	deadline  time.Time
	deadlines int // how often it was set
	stalled   bool
	room      int           // bytes that go through while it is stalled
	maxTake   int           // bytes that one call of write takes; 0: all
	full      bool          // write has returned errFull
	gone      bool          // writes fail
	moved     chan struct{} // closed when any of these, or the deadline, has changed
	hook      func()        // called before each write
	stream    *detached
	chunks    dechunker // of a rawConn
	closed    bool
}

func newClient() *client { return &client{header: http.Header{}, moved: make(chan struct{})} }

func (c *client) Header() http.Header { return c.header }
func (c *client) WriteHeader(s int)   { c.status = s }

func (c *client) Write(p []byte) (int, error) {
	c.call()
	return c.block(p)
}

// block is Write, without the hook.
func (c *client) block(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for {
		n += c.accept(p[n:])
		switch {
		case c.gone:
			return n, net.ErrClosed
		case n == len(p):
			c.writes++
			return n, nil
		}
		moved := c.moved
		var late <-chan time.Time
		if !c.deadline.IsZero() {
			late = time.After(time.Until(c.deadline))
		}
		c.mu.Unlock()
		select {
		case <-moved:
			c.mu.Lock()
		case <-late:
			c.mu.Lock()
			return n, os.ErrDeadlineExceeded
		}
	}
}

// accept takes the part of p that is not stalled. The caller holds client.mu.
func (c *client) accept(p []byte) int {
	n := c.allow(len(p))
	c.unsent = append(c.unsent, p[:n]...)
	return n
}

// allow returns how many of n bytes are not stalled. The caller holds client.mu.
func (c *client) allow(n int) int {
	if c.stalled {
		n = min(n, c.room)
		c.room -= n
	}
	return n
}

func (c *client) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, string(c.unsent))
	c.unsent = nil
	return nil
}

func (c *client) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.deadlines++
	c.move()
	return nil
}

func (c *client) move() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// The methods of rawConn follow.

func (c *client) discard()        {}
func (c *client) watch(w watcher) { c.stream = w.(*detached) }

func (c *client) write(ch *chunk) (int, error) {
	c.call()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, net.ErrClosed
	}
	all := slices.Concat(ch.pieces[:]...)
	n := c.allow(min(len(all), cmp.Or(c.maxTake, len(all))))
	c.unsent = c.chunks.appendBody(c.unsent, all[:n])
	switch {
	case n == len(all):
		c.writes++
		c.frames = append(c.frames, string(c.unsent))
		c.unsent = nil
	case c.stalled && c.room == 0:
		c.full = true
		return n, errFull
	}
	return n, nil
}

func (c *client) close(bool) { c.closed = true }

// before has f called before every write.
func (c *client) before(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = f
}

func (c *client) call() {
	c.mu.Lock()
	hook := c.hook
	c.mu.Unlock()
	if hook != nil {
		hook()
	}
}

// stall stalls the client after a few bytes.
func (c *client) stall() { c.stallAfter(3) }

// stallAfter stalls the client after room bytes.
func (c *client) stallAfter(room int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled, c.room = true, room
}

// hold stalls the client until it is released.
func (c *client) hold() (release func()) {
	c.stall()
	return c.release
}

// release ends a stall.
func (c *client) release() {
	c.change(func() { c.stalled = false })
}

// give lets a stalled client take room more bytes.
func (c *client) give(room int) {
	c.change(func() { c.room += room })
}

// hangUp makes writes fail.
func (c *client) hangUp() {
	c.change(func() { c.gone = true })
}

// change changes what the client takes, and wakes the writer that waits for it.
func (c *client) change(f func()) {
	c.mu.Lock()
	f()
	c.move()
	tell := c.full && (!c.stalled || c.room > 0)
	if tell {
		c.full = false
	}
	c.mu.Unlock()
	if tell {
		c.stream.onWritable()
	}
}

// take returns what was flushed since the last take, with names in place of the
// random parts.
func (c *client) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames = nil
	for i, f := range frames {
		f = regexp.MustCompile(`\d{12}-\d+`).ReplaceAllString(f, "ID")
		f = regexp.MustCompile(`retry: \d+`).ReplaceAllString(f, "retry: N")
		f = regexp.MustCompile(`"session":"[\w-]{22}"`).ReplaceAllString(f, `"session":"S"`)
		frames[i] = f
	}
	return frames
}

type served struct {
	*Session
	*client
	server *Server
	broker *broker.Broker
	leave  context.CancelFunc
}

// serve runs a stream on its own broker, in a synctest bubble.
func serve(t *testing.T, o Options, change ...func(*broker.Config)) *served {
	t.Helper()
	cfg := broker.DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	b, err := broker.New(broker.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(b)
	t.Cleanup(func() {
		server.Close()
		if n := len(server.h2conns.all); n > 0 {
			t.Errorf("%d connections are left", n)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Subscribe.Channels == nil {
		o.Subscribe.Channels = []string{"a"}
	}
	s := open(t, server, o)
	synctest.Wait()
	return s
}

// another opens one more stream of the same Server.
func (s *served) another(t *testing.T, o Options) *served {
	t.Helper()
	return open(t, s.server, o)
}

// sharedConn stands for an HTTP/2 connection.
var sharedConn, _ = net.Pipe()

// open begins a stream in the mode that the test's name ends with.
func open(t *testing.T, server *Server, o Options) *served {
	t.Helper()
	if strings.HasSuffix(t.Name(), "/detached") {
		return detachClient(t, server, o)
	}
	if strings.HasSuffix(t.Name(), "/taken") {
		s, _ := takeClient(t, server, o)
		return s
	}
	s, err := server.Session(o)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient()
	ctx, leave := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	var conn net.Conn
	if strings.HasSuffix(t.Name(), "/shared") {
		r.ProtoMajor, conn = 2, sharedConn
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := s.Begin(c, r, conn); err != nil {
			t.Error(err)
			return
		}
		s.Wait()
	}()
	t.Cleanup(func() {
		leave()
		<-finished
	})
	return &served{s, c, server, server.broker, leave}
}

// detachClient begins a detached stream, as Session.Detach does, whose rawConn is
// the client.
func detachClient(t *testing.T, server *Server, o Options) *served {
	t.Helper()
	s, err := server.Session(o)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient()
	ok, err := s.writeOpening(newResponse(c))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	server.writers.adoptNow(s, c)
	return &served{s, c, server, server.broker, func() { c.stream.onHangup() }}
}

func (s *served) publish(t *testing.T, channel, data string) {
	t.Helper()
	op := broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Data: []byte(data)}}
	if _, err := s.broker.Publish(context.Background(), []broker.Op{op}); err != nil {
		t.Error(err)
	}
}

func (s *served) expect(t *testing.T, frames ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.take(); !slices.Equal(got, frames) {
		t.Errorf("flushed\n%q\nwant\n%q", got, frames)
	}
}

const opened = ": evstream\nid: ID\nevent: evstream.open\nretry: N\n" +
	"data: {\"session\":\"S\",\"channels\":[\"a\"],\"last_event_id\":\"ID\",\"values\":[]}\n\n"

// adoptNow is adopt for a stream that nothing was reserved for. It needs no poller.
func (ws *writers) adoptNow(s *Session, conn rawConn) {
	ws.mu.Lock()
	ws.coming++
	ws.mu.Unlock()
	ws.adopt(s, conn)
}
