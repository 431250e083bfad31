package h2front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience bounds every wait of the tests.
const patience = 20 * time.Second

// listen serves connections with serve until the test ends.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

type frontKey struct{}

// testServer serves HTTP/2 with a Conn in front of each connection.
type testServer struct {
	address string
	fronts  chan *Conn // of each connection, in their order
	h2      *http2.Server
	control *http.Server // whose Shutdown is that of h2
	options Options
	before  func(*Conn)             // is called before each server of a connection
	after   func()                  // is called when a server has gone, and nobody reads yet
	wrap    func(net.Conn) net.Conn // makes what each of them is given
}

func startServer(t testing.TB, handler http.HandlerFunc, configure ...func(*testServer)) *testServer {
	t.Helper()
	s := &testServer{fronts: make(chan *Conn, 100), h2: new(http2.Server), control: new(http.Server)}
	for _, f := range configure {
		f(s)
	}
	if err := http2.ConfigureServer(s.control, s.h2); err != nil {
		t.Fatal(err)
	}
	s.address = listen(t, func(conn net.Conn) { s.serve(conn, handler) })
	return s
}

func (s *testServer) serve(conn net.Conn, handler http.Handler) {
	front := New(conn, s.options)
	s.fronts <- front
	opts := &http2.ServeConnOpts{
		Context: context.WithValue(context.Background(), frontKey{}, front),
		Handler: handler,
		BaseConfig: &http.Server{
			ErrorLog:  log.New(io.Discard, "", 0),
			ConnState: func(_ net.Conn, state http.ConnState) { front.SetIdle(state == http.StateIdle) },
		},
	}
	front.Serve(func(conn net.Conn) {
		if s.before != nil {
			s.before(front)
		}
		if s.wrap != nil {
			conn = s.wrap(conn)
		}
		s.h2.ServeConn(conn, opts)
		if s.after != nil {
			s.after()
		}
	})
}

// taken is a stream that a handler has taken, and what it was told.
type taken struct {
	*Stream
	writes, over chan struct{}
	once         sync.Once
}

func (s *taken) OnWritable() {
	select {
	case s.writes <- struct{}{}:
	default:
	}
}

func (s *taken) OnHangup() { s.once.Do(func() { close(s.over) }) }

// take answers a request with opening and takes its stream. It returns nil if it cannot
// be taken.
func take(w http.ResponseWriter, r *http.Request, opening string) *taken {
	front := r.Context().Value(frontKey{}).(*Conn)
	stream := front.Take(patience)
	if stream == nil {
		return nil
	}
	s := &taken{Stream: stream, writes: make(chan struct{}, 1), over: make(chan struct{})}
	_, _ = io.WriteString(w, opening)
	w.(http.Flusher).Flush()
	s.Watch(s)
	_, _ = w.Write(stream.Marker())
	if err := http.NewResponseController(w).Flush(); err != nil {
		stream.End(false)
		s.OnHangup()
	}
	return s
}

// takes is a handler that sends each stream that it takes, or nil, to a chan.
func takes(to chan<- *taken, opening string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain":
			_, _ = io.WriteString(w, "plain")
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		case "/big":
			block := bytes.Repeat([]byte("x"), 1<<16)
			for range 64 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		default:
			to <- take(w, r, opening)
		}
	}
}

// write writes all of data, and fails the test if it cannot.
func (s *taken) write(t testing.TB, data string, last bool) {
	t.Helper()
	if err := s.tryWrite(data, last); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func (s *taken) tryWrite(data string, last bool) error {
	end := time.After(patience)
	rest := []byte(data)
	for {
		n, err := s.Write(rest[:min(len(rest), 5)], rest[min(len(rest), 5):], last)
		rest = rest[n:]
		switch {
		case err == nil && len(rest) == 0:
			return nil
		case err == nil:
		case !errors.Is(err, ErrFull):
			return err
		default:
			select {
			case <-s.writes:
			case <-s.over:
				return net.ErrClosed
			case <-end:
				return errors.New("the stream was not writable in time")
			}
		}
	}
}

// eventually waits for a condition that is not told of otherwise.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// endsLate has connections be closed that are idle for longer than a test takes.
func endsLate(s *testServer) { s.options.IdleTimeout = 10 * patience }

// endSoon has the connection be closed as soon as it is idle.
func (c *Conn) endSoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.options.IdleTimeout = time.Millisecond
	c.watch()
}

// goes waits until a connection has no server.
func goes(t testing.TB, c *Conn) {
	t.Helper()
	eventually(t, "the server to go", c.alone.Load)
}

// hasStreams reports whether streams that were taken are open.
func (c *Conn) hasStreams() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.taken) > 0
}

func wait[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("no %s in time", what)
	}
	return v
}

// client returns an HTTP client that has one connection to the server.
func (s *testServer) client(t testing.TB) *http.Client {
	t.Helper()
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				t.Cleanup(func() { _ = conn.Close() })
			}
			return conn, err
		},
	}
	return &http.Client{Transport: transport}
}

func (s *testServer) get(t testing.TB, client *http.Client, path string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func reads(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// raw is a client that writes and reads frames.
type raw struct {
	t      testing.TB
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
}

// dial opens a connection, and allows it a window beyond the default, or none if that is 0.
func (s *testServer) dial(t testing.TB, window uint32, settings ...http2.Setting) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * patience)) // of a whole test
	c := &raw{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
	c.enc = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c.must(c.framer.WriteSettings(settings...))
	if window > 0 {
		c.must(c.framer.WriteWindowUpdate(0, window))
	}
	return c
}

func (c *raw) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// request opens a stream.
func (c *raw) request(id uint32, path string) {
	c.t.Helper()
	c.block.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		c.must(c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true}))
}

// next returns the next frame that is not of settings or a window, and answers settings.
func (c *raw) next() http2.Frame {
	c.t.Helper()
	for {
		f, err := c.framer.ReadFrame()
		c.must(err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.must(c.framer.WriteSettingsAck())
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// pings waits until all that it has sent was read: a PING, of which the answer comes next.
func (c *raw) pings(mark byte) {
	c.t.Helper()
	c.must(c.framer.WritePing(false, [8]byte{mark}))
	if f := c.next(); !isPong(f, mark) {
		c.t.Fatalf("read %v, want the answer of a PING", f)
	}
}

func isPong(f http2.Frame, mark byte) bool {
	pong, ok := f.(*http2.PingFrame)
	return ok && pong.IsAck() && pong.Data == [8]byte{mark}
}

// data reads DATA frames of a stream until it has want.
func (c *raw) data(id uint32, want string, end bool) {
	c.t.Helper()
	got := ""
	for {
		f := c.next()
		d, ok := f.(*http2.DataFrame)
		if !ok || d.StreamID != id {
			c.t.Fatalf("read %v, want DATA of stream %d", f, id)
		}
		got += string(d.Data())
		if len(got) >= len(want) && (d.StreamEnded() || !end) {
			if got != want || d.StreamEnded() != end {
				c.t.Fatalf("read %.200q, end %v; want %.200q, %v", got, d.StreamEnded(), want, end)
			}
			return
		}
	}
}

// opens reads the header and the opening of a stream.
func (c *raw) opens(id uint32, opening string) {
	c.t.Helper()
	f := c.next()
	if h, ok := f.(*http2.MetaHeadersFrame); !ok || h.StreamID != id || h.StreamEnded() || h.PseudoValue("status") != "200" {
		c.t.Fatalf("read %v, want HEADERS of stream %d", f, id)
	}
	c.data(id, opening, false)
}

// leaves reads a GOAWAY without an error: the last stream that was served has the id last.
func (c *raw) leaves(last uint32) {
	c.t.Helper()
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeNo || f.LastStreamID != last {
		c.t.Fatalf("read %v, want GOAWAY", f)
	}
}

// ends reads the end of the connection.
func (c *raw) ends() {
	c.t.Helper()
	if f, err := c.framer.ReadFrame(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("read %v, %v, want the end of the connection", f, err)
	}
}
