package h3stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

const patience = 30 * time.Second

// site is a server of quic-go whose streams are all taken.
type site struct {
	*testing.T
	url      string
	broker   *broker.Broker
	server   *http3.Server
	streams  *stream.Server
	sessions chan *stream.Session
	returned chan struct{} // handlers
	freed    chan struct{} // requests
}

func open(t *testing.T, o stream.Options, change ...func(*http3.Server)) *site {
	t.Helper()
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		T: t, broker: b, streams: stream.NewServer(b), sessions: make(chan *stream.Session, 100),
		returned: make(chan struct{}, 100), freed: make(chan struct{}, 100),
	}
	o.Subscribe.Channels = []string{"a"}
	s.server = &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate(t)}}),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := s.streams.Session(o)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			runtime.AddCleanup(r, func(freed chan struct{}) { freed <- struct{}{} }, s.freed)
			if ok, err := session.DetachStream(w, Take); !ok || err != nil {
				t.Error(ok, err)
			}
			s.sessions <- session
			s.returned <- struct{}{}
		}),
	}
	for _, f := range change {
		f(s.server)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://" + socket.LocalAddr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.server.Serve(socket)
	}()
	t.Cleanup(func() {
		s.streams.Close()
		_ = s.server.Close()
		<-served
		_ = socket.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// certificate is that of net/http's own test server.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return server.TLS.Certificates[0]
}

func (s *site) publish(data string) {
	s.Helper()
	op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}}
	if _, err := s.broker.Publish(context.Background(), []broker.Op{op}); err != nil {
		s.Error(err)
	}
}

// reader reads one stream.
type reader struct {
	*site
	session *stream.Session
	body    io.ReadCloser
	lines   *bufio.Reader
}

func (s *site) client(config *quic.Config) *http3.Transport {
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, QUICConfig: config}
	s.Cleanup(func() { _ = transport.Close() })
	return transport
}

// read opens a stream, whose handler returns.
func (s *site) read(transport *http3.Transport) *reader {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	s.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = answer.Body.Close() })
	r := &reader{site: s, body: answer.Body, lines: bufio.NewReader(answer.Body)}
	await(s, "the handler", s.returned)
	r.session = await(s, "the session", s.sessions)
	r.expect(": evstream")
	return r
}

func await[E any](t *site, what string, c <-chan E) (e E) {
	t.Helper()
	select {
	case e = <-c:
	case <-time.After(patience):
		t.Fatalf("%s has not come", what)
	}
	return e
}

// collected waits until a request is freed.
func (s *site) collected() {
	s.Helper()
	for deadline := time.Now().Add(patience); ; {
		runtime.GC()
		select {
		case <-s.freed:
			return
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Fatal("the request is kept")
		}
	}
}

// expect reads until a line.
func (r *reader) expect(line string) {
	r.Helper()
	for {
		got, err := r.lines.ReadString('\n')
		if err != nil {
			r.Fatalf("waiting for %.40q: %v", line, err)
		}
		if strings.TrimSuffix(got, "\n") == line {
			return
		}
	}
}

// ended waits for the end of the stream.
func (r *reader) ended(reason stream.Reason) {
	r.Helper()
	await(r.site, "the end of the stream", r.session.Done())
	if got := r.session.Reason(); got != reason {
		r.Errorf("the stream ended for %q, not %q", got, reason)
	}
}

func TestATakenStreamGoesOnWithoutItsHandler(t *testing.T) {
	s := open(t, stream.Options{})
	transport := s.client(nil)
	first, second := s.read(transport), s.read(transport)
	for range 2 { // what held the requests is freed
		s.collected()
	}
	large := strings.Repeat("x", 200_000) // more than the worker writes at once
	for _, data := range []string{"1", large, "2"} {
		s.publish(data)
	}
	for _, r := range []*reader{first, second} {
		for _, data := range []string{"1", large, "2"} {
			r.expect("data: " + data)
		}
	}
	// One ends in good order, the other goes on.
	first.session.End()
	first.expect("event: end")
	if rest, err := io.ReadAll(first.lines); err != nil || !strings.HasPrefix(string(rest), "data: {}\n\n") {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
	first.ended(stream.ReasonEnded)
	s.publish("3")
	second.expect("data: 3")
	third := s.read(transport)
	third.session.End()
	third.ended(stream.ReasonEnded)
}

// The server closes a connection that has no streams: it knows of the end of one that was
// taken, and of one that goes on.
func TestAConnectionIsIdleWithoutTakenStreams(t *testing.T) {
	s := open(t, stream.Options{}, func(s *http3.Server) { s.IdleTimeout = 2 * time.Second })
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	to, err := net.ResolveUDPAddr("udp", strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := quic.Dial(t.Context(), socket, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, &quic.Config{KeepAlivePeriod: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := new(http3.Transport).NewClientConn(conn).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	session := await(s, "the session", s.sessions)
	select {
	case <-conn.Context().Done():
		t.Fatalf("the connection has ended: %v", context.Cause(conn.Context()))
	case <-time.After(s.server.IdleTimeout * 3 / 2):
	}
	session.End()
	await(s, "the end of the connection", conn.Context().Done())
	var closed *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &closed) || closed.ErrorMessage != "idle timeout" {
		t.Errorf("the connection ended for %v", err)
	}
}

func TestATakenStreamEndsWithItsClient(t *testing.T) {
	s := open(t, stream.Options{})
	t.Run("the client stops reading it", func(t *testing.T) {
		r := s.read(s.client(nil))
		_ = r.body.Close()
		r.ended(stream.ReasonClient)
	})
	t.Run("the client closes the connection", func(t *testing.T) {
		transport := s.client(nil)
		r := s.read(transport)
		_ = transport.Close()
		r.ended(stream.ReasonClient)
	})
	t.Run("the server closes the connection", func(t *testing.T) {
		r := s.read(s.client(nil))
		_ = s.server.Close()
		r.ended(stream.ReasonClient)
	})
}

// A reader that allows no more is cut, with its worker, and holds nobody up. Its client sees
// a reset and not an end.
func TestAReaderThatAllowsNoMoreIsCut(t *testing.T) {
	s := open(t, stream.Options{WriteTimeout: 2 * time.Second})
	other := s.read(s.client(nil))
	before := runtime.NumGoroutine()
	slow := s.read(s.client(&quic.Config{InitialStreamReceiveWindow: 2 << 10, MaxStreamReceiveWindow: 2 << 10}))
	for range 20 {
		s.publish(strings.Repeat("x", 1000))
	}
	for range 20 {
		other.expect("data: " + strings.Repeat("x", 1000))
	}
	slow.ended(stream.ReasonSlow)
	_, err := io.ReadAll(slow.lines)
	var reset *http3.Error
	if !errors.As(err, &reset) || reset.ErrorCode != http3.ErrCodeInternalError || !reset.Remote {
		t.Errorf("the client sees %v", err)
	}
	large := strings.Repeat("y", 100<<10) // for a worker: the deadline of the opening is over
	s.publish(large)
	other.expect("data: " + large)
	_ = slow.body.Close()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before+15; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines more", runtime.NumGoroutine()-before)
		}
	}
}

func TestAnotherServersStreamsAreNotTaken(t *testing.T) {
	if Take(httptest.NewRecorder()) != nil {
		t.Error("it is taken")
	}
}
