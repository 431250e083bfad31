package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// patience bounds how long a test waits for what must happen.
const patience = 30 * time.Second

// venue is a net/http server on a real socket whose streams are detached. The
// path of a request names the channel.
type tcpSite struct {
	t        *testing.T
	broker   *broker.Broker
	server   *Server
	http     *httptest.Server
	options  Options
	sessions chan *Session // that were detached
	refused  chan *Session // that could not be, and are served
	roomy    atomic.Bool   // the buffers of connections are as large as the system likes
}

// newVenue opens a venue, which leaves nothing behind when the test ends:
// neither a goroutine nor a file descriptor.
func newTCPSite(t *testing.T, o Options, change ...func(*broker.Config)) *tcpSite {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	descriptors := openFiles(t)
	cfg := broker.DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	b, err := broker.New(broker.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	v := &tcpSite{
		t: t, broker: b, server: NewServer(b), options: o,
		sessions: make(chan *Session, 1000), refused: make(chan *Session, 1000),
	}
	v.http = httptest.NewUnstartedServer(http.HandlerFunc(v.serve))
	v.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		// Little fits into the buffers of a connection.
		if !v.roomy.Load() {
			if err := c.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
				t.Error(err)
			}
		}
		return ConnContext(ctx, c)
	}
	v.http.Start()
	t.Cleanup(func() {
		v.http.CloseClientConnections()
		v.http.Close()
		v.server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, leaks)
		// A connection that net/http has begun to close is closed soon.
		until := time.Now().Add(patience)
		for n := openFiles(t); n != descriptors; n = openFiles(t) {
			if time.Now().After(until) {
				t.Errorf("%d file descriptors are open, %d were before", n, descriptors)
				return
			}
		}
	})
	return v
}

// openFiles counts the sockets of the process, and what watches them.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		to, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && (strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:")) {
			n++
		}
	}
	return n
}

// serve detaches a stream, or serves it where that cannot be. With the query
// "serve" or "attached" it serves it in any case, with "mistaken" it takes another connection
// for that of the request.
func (v *tcpSite) serve(w http.ResponseWriter, r *http.Request) {
	o := v.options
	o.Subscribe.Channels = []string{strings.Trim(r.URL.Path, "/")}
	o.Subscribe.Start.LastEventID = r.Header.Get("Last-Event-ID")
	o.Subscribe.Start.Earliest = r.URL.Query().Has("earliest")
	s, err := v.server.Session(o)
	if err != nil {
		v.t.Error(err)
		return
	}
	conn := ConnOf(r)
	if r.URL.Query().Has("attached") {
		v.refused <- s
		if err := s.Begin(w, r, conn); err != nil {
			v.t.Error(err)
			return
		}
		s.Wait()
		return
	}
	if !r.URL.Query().Has("serve") {
		if r.URL.Query().Has("mistaken") {
			if conn, err = net.Dial("tcp", v.http.Listener.Addr().String()); err != nil {
				v.t.Error(err)
				return
			}
			defer conn.Close()
		}
		detached, err := s.Detach(w, r, conn)
		if err != nil {
			v.t.Error(err)
		}
		if detached {
			v.sessions <- s
			return
		}
	}
	v.refused <- s
	if err := s.Serve(w, r); err != nil {
		v.t.Error(err)
	}
}

// publish publishes events, and returns them as a stream has them.
func (v *tcpSite) publish(channel string, data ...string) (encoded string) {
	v.t.Helper()
	for _, d := range data {
		e := sse.Event{Data: []byte(d)}
		results, err := v.broker.Publish(context.Background(), []broker.Op{{Kind: broker.KindEvent, Channel: channel, Event: e}})
		if err != nil {
			v.t.Fatal(err)
		}
		e.ID = results[0].ID.String()
		encoded += string(sse.AppendEvent(nil, &e))
	}
	return encoded
}

// guest is a client on a real socket.
type tcpClient struct {
	t       *testing.T
	conn    *net.TCPConn
	in      *bufio.Reader
	header  string // of the answer, as it was sent
	opening string // what its body begins with
	session *Session
}

// dial connects. Little fits into what the system buffers for the client.
func (v *tcpSite) dial() *tcpClient {
	v.t.Helper()
	conn, err := net.Dial("tcp", v.http.Listener.Addr().String())
	if err != nil {
		v.t.Fatal(err)
	}
	g := &tcpClient{t: v.t, conn: conn.(*net.TCPConn), in: bufio.NewReaderSize(conn, 16)}
	v.t.Cleanup(func() { _ = conn.Close() })
	if err := errors.Join(g.conn.SetReadBuffer(64<<10), conn.SetDeadline(time.Now().Add(patience))); err != nil {
		v.t.Fatal(err)
	}
	return g
}

// ask sends a request; more follows it in the same write.
func (g *tcpClient) ask(target, more string, header ...string) {
	g.t.Helper()
	if len(header) > 0 {
		header = append(header, "")
	}
	request := "GET " + target + " HTTP/1.1\r\nHost: test\r\n" + strings.Join(header, "\r\n") + "\r\n" + more
	if _, err := io.WriteString(g.conn, request); err != nil {
		g.t.Fatal(err)
	}
}

// greeted reads the header and the opening of a stream.
func (g *tcpClient) greeted() {
	g.t.Helper()
	g.header = g.until("\r\n\r\n")
	g.opening = g.until("\n\n") + g.until("\n\n")
	if !strings.Contains(g.opening, "event: evstream.open\n") {
		g.t.Fatalf("the stream opens with %q", g.opening)
	}
}

// until reads up to and including what is looked for.
func (g *tcpClient) until(end string) string {
	g.t.Helper()
	var read []byte
	for !strings.HasSuffix(string(read[max(0, len(read)-len(end)):]), end) {
		c, err := g.in.ReadByte()
		if err != nil {
			g.t.Fatalf("after %q: %v", read, err)
		}
		read = append(read, c)
	}
	return string(read)
}

// expect reads what must come next.
func (g *tcpClient) expect(want string) {
	g.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(g.in, got)
	if string(got[:n]) == want {
		return
	}
	at := 0
	for at < n && got[at] == want[at] {
		at++
	}
	g.t.Fatalf("of %d bytes %d are right (%v), then comes %.200q, not %.200q", len(want), at, err, got[at:n], want[at:])
}

// open opens a stream that is detached, and reads its opening.
func (v *tcpSite) open(target string, header ...string) *tcpClient {
	v.t.Helper()
	g := v.dial()
	g.ask(target, "", header...)
	g.greeted()
	g.session = v.latest()
	return g
}

// latest is the session that was detached last.
func (v *tcpSite) latest() *Session {
	v.t.Helper()
	select {
	case s := <-v.sessions:
		return s
	case s := <-v.refused:
		v.t.Fatalf("session %s is not detached", s.ID())
	case <-time.After(patience):
		v.t.Fatal("no stream is detached")
	}
	return nil
}

// ended waits for the end of a session, for one of some reasons, and returns
// how long that took.
func (v *tcpSite) ended(s *Session, reasons ...Reason) time.Duration {
	v.t.Helper()
	began := time.Now()
	select {
	case <-s.Done():
	case <-time.After(patience):
		v.t.Fatal("the stream does not end")
	}
	took := time.Since(began)
	if !slices.Contains(reasons, s.Reason()) {
		v.t.Errorf("the stream ended for %q, not %q", s.Reason(), reasons)
	}
	return took
}

// numbered are n pieces of data, the ith of which begins with i.
func numbered(n, size int) []string {
	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
	}
	return data
}
