package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/evstream/caddy-evstream/sse"
)

// protocol is how a Go client speaks to a server.
type protocol string

const (
	plainH1    protocol = "HTTP/1.1"
	attachedH1 protocol = "HTTP/1.1, attached"
	tlsH1      protocol = "HTTP/1.1 over TLS"
	tlsH2      protocol = "HTTP/2"
	tlsH3      protocol = "HTTP/3"
)

// insecure accepts any certificate: those of the servers are self-signed.
var insecure = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}

// url returns the URL of a path at the address that serves the protocol.
func (p protocol) url(s *server, path string) string {
	switch p {
	case plainH1:
		return "http://" + s.plain + path
	case attachedH1:
		return "http://" + s.attached + path
	}
	return "https://" + s.tls + path
}

// check reports a stream over HTTP/1.1 that is not chunked, or is detached and says
// that its connection closes: some clients then take a cut for a proper end.
func (p protocol) check(r *http.Response) error {
	if (p == plainH1 || p == attachedH1 || p == tlsH1) && !slices.Equal(r.TransferEncoding, []string{"chunked"}) ||
		p == plainH1 && runtime.GOOS == "linux" && r.Close {
		return fmt.Errorf("a stream over %s has the encoding %v, and the connection is to close: %v", p, r.TransferEncoding, r.Close)
	}
	return nil
}

// client makes a client with connections of its own.
func (p protocol) client(t testing.TB) *http.Client {
	t.Helper()
	if p == tlsH3 {
		transport := &http3.Transport{TLSClientConfig: insecure.Clone()}
		t.Cleanup(func() { _ = transport.Close() })
		return &http.Client{Transport: transport}
	}
	transport := &http.Transport{TLSClientConfig: insecure.Clone(), Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetHTTP1(p != tlsH2)
	transport.Protocols.SetHTTP2(p == tlsH2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// plainClient makes a client for short requests.
func plainClient(t testing.TB) *http.Client {
	c := plainH1.client(t)
	c.Timeout = patience
	return c
}

// reader reads one stream and does not reconnect.
type reader struct {
	response *http.Response
	events   *sse.Decoder
	raw      tail
	cancel   context.CancelFunc
}

// open opens a stream and reads its opening event. It lasts until the test ends.
func open(t testing.TB, client *http.Client, url string, header ...string) *reader {
	t.Helper()
	r, err := tryOpen(t, client, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryOpen is open for any goroutine.
func tryOpen(t testing.TB, client *http.Client, url string, header ...string) (*reader, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	impatient := time.AfterFunc(patience, cancel)
	defer impatient.Stop()
	r, err := connect(ctx, client, url, header...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = r.response.Body.Close() })
	r.cancel = cancel
	if r.response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, r.response.Status)
	}
	if e, err := r.events.Next(); err != nil || e.Type != "evstream.open" {
		return nil, fmt.Errorf("the stream opens with %+v, %w", e, err)
	}
	return r, nil
}

// connect sends the request of a stream. The caller closes the body.
func connect(ctx context.Context, client *http.Client, url string, header ...string) (*reader, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/event-stream")
	for pair := range slices.Chunk(header, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	r := &reader{response: response}
	r.events = sse.NewDecoder(io.TeeReader(response.Body, &r.raw), 1<<20)
	return r, nil
}

// next returns the next published event.
func (r *reader) next() (sse.Event, error) {
	for {
		e, err := r.events.Next()
		if err != nil || e.Type == "" || !hubs(e.Type) {
			return e, err
		}
		if e.Type == "evstream.gap" {
			return e, errors.New("a gap: " + string(e.Data))
		}
	}
}

// must is next, within patience.
func (r *reader) must(t testing.TB) sse.Event {
	t.Helper()
	impatient := time.AfterFunc(patience, r.cancel)
	defer impatient.Stop()
	e, err := r.next()
	if err != nil {
		t.Fatalf("instead of an event: %v", err)
	}
	return e
}

// hubs reports whether an event is one of the hub itself, such as evstream.open.
func hubs(typ string) bool { return len(typ) > 9 && typ[:9] == "evstream." }

// tail keeps the end of what is written to it, counts heartbeats, and measures the
// longest time without a write.
type tail struct {
	mu    sync.Mutex
	end   []byte
	beats int
	at    time.Time     // of the last write
	quiet time.Duration // the longest time between two writes
}

// Write implements io.Writer.
func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if string(p) == ":\n" || bytes.HasSuffix(p, []byte("\n:\n")) {
		l.beats++ // each is flushed, and so read, at once
	}
	l.pass()
	l.end = append(l.end, p...)
	if more := len(l.end) - 512; more > 0 {
		l.end = append(l.end[:0], l.end[more:]...)
	}
	return len(p), nil
}

func (l *tail) pass() {
	now := time.Now()
	if !l.at.IsZero() {
		l.quiet = max(l.quiet, now.Sub(l.at))
	}
	l.at = now
}

// silence is the longest time without a write since the last call.
func (l *tail) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.at
	l.pass()
	quiet := l.quiet
	l.at, l.quiet = at, 0
	return quiet
}

func (l *tail) heartbeats() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beats
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.end)
}

// event is an event as a page sees it.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data string `json:"data"`
}

// feed is what an EventSource has received, over all its connections.
type feed struct {
	Events   []event `json:"events"`   // published ones
	Messages []event `json:"messages"` // what onmessage saw
	Openings []event `json:"openings"` // evstream.open
	Gaps     []event `json:"gaps"`     // evstream.gap
	Moves    []event `json:"moves"`    // evstream.at
	Cuts     int     `json:"cuts"`     // how often it fired "error"
	State    int     `json:"state"`    // readyState
}

// numbers checks that the data of the events are 1, 2, 3, … and n is the last.
func (f *feed) numbers(t testing.TB, n int) {
	t.Helper()
	for i, e := range f.Events {
		if e.Data != strconv.Itoa(i+1) {
			t.Fatalf("event %d of %d is %+v, after %+v", i+1, n, e, f.Events[max(0, i-3):i])
		}
	}
	if len(f.Events) != n {
		t.Fatalf("%d events came, %d were published", len(f.Events), n)
	}
}

// follower is an EventSource.
type follower interface {
	feed(t testing.TB) feed
}

// source is an EventSource in Go, for protocols that a browser cannot be made to
// use.
type source struct {
	mu sync.Mutex
	f  feed
}

// follow reads a stream and reconnects, until the test ends.
func follow(t testing.TB, proto protocol, url string) *source {
	t.Helper()
	client := proto.client(t)
	s := new(source)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		var last string
		retry := 3 * time.Second
		for ctx.Err() == nil {
			if s.once(ctx, proto, client, url, &last, &retry) {
				s.mu.Lock()
				s.f.Cuts++
				s.mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
		}
	}()
	return s
}

// once reads one connection to its end, if there is one.
func (s *source) once(ctx context.Context, proto protocol, client *http.Client, url string, last *string, retry *time.Duration) (connected bool) {
	var header []string
	if *last != "" {
		header = []string{"Last-Event-ID", *last}
	}
	r, err := connect(ctx, client, url, header...)
	if err != nil {
		return false
	}
	defer r.response.Body.Close()
	if err := proto.check(r.response); err != nil {
		s.take(event{Type: "error", Data: err.Error()}) // which no test expects
	}
	for {
		e, err := r.events.Next()
		if id := r.events.LastEventID(); id != "" {
			*last = id
		}
		if ms := r.events.Retry(); ms >= 0 {
			*retry = time.Duration(ms) * time.Millisecond
		}
		if err != nil {
			return true
		}
		s.take(event{Type: e.Type, ID: *last, Data: string(e.Data)})
	}
}

func (s *source) take(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Type {
	case "evstream.open":
		s.f.Openings = append(s.f.Openings, e)
	case "evstream.gap":
		s.f.Gaps = append(s.f.Gaps, e)
	case "evstream.at":
		s.f.Moves = append(s.f.Moves, e)
	default:
		s.f.Events = append(s.f.Events, e)
	}
}

func (s *source) feed(testing.TB) feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.f
	f.Events = slices.Clone(f.Events)
	return f
}
