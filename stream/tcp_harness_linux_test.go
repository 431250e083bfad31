package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/internal/mutation"
	"github.com/evstream/caddy-evstream/sse"
)

// patience bounds how long a test waits for what must happen.
var patience = mutation.Patience(30 * time.Second)

// overEach runs a test over HTTP/1.1 without TLS and with it. newTCPSite takes which from
// the test's name.
func overEach(t *testing.T, f func(t *testing.T)) {
	t.Run("tcp", f)
	t.Run("tls", f)
}

// tcpSite is a net/http server on a real socket whose streams are detached. The
// path of a request names the channel.
type tcpSite struct {
	t        *testing.T
	broker   *broker.Broker
	server   *Server
	http     *httptest.Server
	options  Options
	sessions chan *Session // that were detached
	refused  chan *Session // that were not detached, and are served attached
	roomy    atomic.Bool   // the send buffers have their default size
}

// newTCPSite starts a tcpSite. It is closed when the test ends, and must leave
// neither a goroutine nor a file descriptor behind.
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
	site := &tcpSite{
		t: t, broker: b, server: NewServer(b), options: o,
		sessions: make(chan *Session, 1000), refused: make(chan *Session, 1000),
	}
	site.http = httptest.NewUnstartedServer(http.HandlerFunc(site.serve))
	site.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		// A small send buffer, so that a client that does not read stalls soon.
		if !site.roomy.Load() {
			if err := tcpOf(c).SetWriteBuffer(64 << 10); err != nil {
				t.Error(err)
			}
		}
		return ConnContext(ctx, c)
	}
	if strings.Contains(t.Name()+"/", "/tls/") {
		site.http.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
		site.http.StartTLS()
	} else {
		site.http.Start()
	}
	t.Cleanup(func() {
		site.http.CloseClientConnections()
		site.http.Close()
		site.server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		leaktest.VerifyNone(t, leaks)
		// net/http may still be closing a connection.
		until := time.Now().Add(patience)
		for n := openFiles(t); n != descriptors; n = openFiles(t) {
			if time.Now().After(until) {
				t.Errorf("%d file descriptors are open, %d were before", n, descriptors)
				return
			}
		}
	})
	return site
}

// openFiles counts the sockets and epoll instances of the process.
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

// serve detaches a stream, or serves it attached if that is impossible. The query
// "serve" or "attached" has it served attached in any case, without and with its
// connection; "mistaken" passes another connection than that of the request.
func (site *tcpSite) serve(w http.ResponseWriter, r *http.Request) {
	o := site.options
	o.Subscribe.Channels = []string{strings.Trim(r.URL.Path, "/")}
	o.Subscribe.Start.LastEventID = r.Header.Get("Last-Event-ID")
	o.Subscribe.Start.Earliest = r.URL.Query().Has("earliest")
	s, err := site.server.Session(o)
	if err != nil {
		site.t.Error(err)
		return
	}
	conn := ConnOf(r)
	if r.URL.Query().Has("attached") {
		site.refused <- s
		if err := s.Begin(w, r, conn); err != nil {
			site.t.Error(err)
			return
		}
		s.Wait()
		return
	}
	if !r.URL.Query().Has("serve") {
		if r.URL.Query().Has("mistaken") {
			if conn, err = net.Dial("tcp", site.http.Listener.Addr().String()); err != nil {
				site.t.Error(err)
				return
			}
			defer conn.Close()
		}
		detached, err := s.Detach(w, r, conn)
		if err != nil {
			site.t.Error(err)
		}
		if detached {
			site.sessions <- s
			return
		}
	}
	site.refused <- s
	if err := s.Serve(w, r); err != nil {
		site.t.Error(err)
	}
}

// publish publishes events, and returns them as a stream sends them.
func (site *tcpSite) publish(channel string, data ...string) (encoded string) {
	site.t.Helper()
	for _, d := range data {
		e := sse.Event{Data: []byte(d)}
		results, err := site.broker.Publish(context.Background(), []broker.Op{{Kind: broker.KindEvent, Channel: channel, Event: e}})
		if err != nil {
			site.t.Fatal(err)
		}
		e.ID = results[0].ID.String()
		encoded += string(sse.AppendEvent(nil, &e))
	}
	return encoded
}

// tcpClient is a client on a real socket.
type tcpClient struct {
	t       *testing.T
	conn    *net.TCPConn
	over    net.Conn // conn, or TLS over it
	in      *bufio.Reader
	body    *bufio.Reader // of the answer, without its framing
	header  string        // of the answer, as it was sent
	opening string        // what its body begins with
	session *Session
}

// dial connects, with a small receive buffer.
func (site *tcpSite) dial() *tcpClient {
	site.t.Helper()
	conn, err := net.Dial("tcp", site.http.Listener.Addr().String())
	if err != nil {
		site.t.Fatal(err)
	}
	client := &tcpClient{t: site.t, conn: conn.(*net.TCPConn), over: conn}
	if site.http.TLS != nil {
		client.over = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	client.in = bufio.NewReaderSize(client.over, 32)
	site.t.Cleanup(func() { _ = conn.Close() })
	if err := errors.Join(client.conn.SetReadBuffer(64<<10), conn.SetDeadline(time.Now().Add(patience))); err != nil {
		site.t.Fatal(err)
	}
	return client
}

// ask sends a request, followed by more in the same write.
func (client *tcpClient) ask(target, more string, header ...string) {
	client.t.Helper()
	if len(header) > 0 {
		header = append(header, "")
	}
	request := "GET " + target + " HTTP/1.1\r\nHost: test\r\n" + strings.Join(header, "\r\n") + "\r\n" + more
	if _, err := io.WriteString(client.over, request); err != nil {
		client.t.Fatal(err)
	}
}

// readHeader reads the header of an answer.
func (client *tcpClient) readHeader() {
	client.t.Helper()
	client.body = client.in
	client.header = client.until("\r\n\r\n")
	if strings.Contains(client.header, "\r\nTransfer-Encoding: chunked\r\n") {
		client.body = bufio.NewReaderSize(httputil.NewChunkedReader(client.in), 16)
	}
}

// expectEnd expects the proper end of the body and of the connection.
func (client *tcpClient) expectEnd() {
	client.t.Helper()
	rest, err := io.ReadAll(client.body)
	if err != nil || len(rest) > 0 {
		client.t.Errorf("at the end of the body: %.200q, %v", rest, err)
	}
	want := ""
	if client.body != client.in {
		want = "\r\n" // the ChunkedReader leaves it
	}
	if rest, err = io.ReadAll(client.in); err != nil || string(rest) != want {
		client.t.Errorf("at the end of the connection: %.200q, %v", rest, err)
	}
}

// readOpening reads the header and the opening of a stream.
func (client *tcpClient) readOpening() {
	client.t.Helper()
	client.readHeader()
	client.opening = client.until("\n\n")
	if !strings.Contains(client.opening, "event: evstream.open\n") {
		client.t.Fatalf("the stream opens with %q", client.opening)
	}
}

// until reads up to and including end.
func (client *tcpClient) until(end string) string {
	client.t.Helper()
	var read []byte
	for !strings.HasSuffix(string(read[max(0, len(read)-len(end)):]), end) {
		c, err := client.body.ReadByte()
		if err != nil {
			client.t.Fatalf("after %q: %v", read, err)
		}
		read = append(read, c)
	}
	return string(read)
}

// expect reads what must come next.
func (client *tcpClient) expect(want string) {
	client.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(client.body, got)
	if string(got[:n]) == want {
		return
	}
	at := 0
	for at < n && got[at] == want[at] {
		at++
	}
	client.t.Fatalf("of %d bytes %d are right (%v), then comes %.200q, not %.200q", len(want), at, err, got[at:n], want[at:])
}

// open opens a stream that is detached, and reads its opening.
func (site *tcpSite) open(target string, header ...string) *tcpClient {
	site.t.Helper()
	client := site.dial()
	client.ask(target, "", header...)
	client.readOpening()
	client.session = site.latest()
	return client
}

// latest waits for the next session that is detached, and returns it.
func (site *tcpSite) latest() *Session {
	site.t.Helper()
	select {
	case s := <-site.sessions:
		return s
	case s := <-site.refused:
		site.t.Fatalf("session %s is not detached", s.ID())
	case <-time.After(patience):
		site.t.Fatal("no stream is detached")
	}
	return nil
}

// ended waits until a session has ended, for one of the reasons.
func (site *tcpSite) ended(s *Session, reasons ...Reason) {
	site.t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		site.t.Fatal("the stream does not end")
	}
	if !slices.Contains(reasons, s.Reason()) {
		site.t.Errorf("the stream ended for %q, not %q", s.Reason(), reasons)
	}
}

// numbered returns n pieces of data, the ith of which begins with i.
func numbered(n, size int) []string {
	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
	}
	return data
}

// descriptor returns that of the socket of a detached session.
func descriptor(s *Session) int {
	if c, ok := s.detached.Load().conn.(*tlsConn); ok {
		return c.conn.FD()
	}
	return int(s.detached.Load().conn.(*tcpConn).fd)
}
