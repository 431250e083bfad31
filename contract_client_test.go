package evstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// request is what a test sends. Header lines are "Name: value".
type request struct {
	method, path string
	header       []string
	body         string
}

func (q request) build() *http.Request {
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	r := httptest.NewRequest(q.method, "http://hub.example"+q.path, body)
	for _, line := range q.header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// asBackend is a request that may do everything.
func asBackend(method, path, body string, header ...string) request {
	return request{method, path, append([]string{"Authorization: Bearer " + backendSecret}, header...), body}
}

// wire sends requests as they are, one after the other over one connection for
// as long as the server keeps it. It may be used by many goroutines.
type wire struct {
	address string

	mu   sync.Mutex
	conn net.Conn // between requests; nil for none
}

// roundTrip sends a request and reads the whole answer.
func (w *wire) roundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		var err error
		if w.conn, err = net.Dial("tcp", w.address); err != nil {
			return nil, err
		}
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() { sent <- r.Write(w.conn) }() // the answer may come before the body was sent
	resp, err := http.ReadResponse(bufio.NewReader(w.conn), r)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
	}
	if err != nil || resp.Close {
		_ = w.conn.Close()
		w.conn = nil
	}
	if failed := <-sent; failed != nil && err == nil && !resp.Close {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// ask makes a request that does not stream.
func ask(t *testing.T, e *testSite, q request) *http.Response {
	t.Helper()
	resp, err := e.wire.roundTrip(q.build())
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return resp
}

// bodyOf is the body of an answer, without the line end that every document
// has for the sake of those who read it in a terminal.
func bodyOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, ended := strings.CutSuffix(string(b), "\n")
	if len(b) > 0 && !ended {
		t.Errorf("the answer does not end its line: %q", b)
	}
	return body
}

// problemDoc is a problem document, read.
type problemDoc struct {
	Type, Title, Detail string
	Status              int
	Outcome             string
	Published           *int
	ID                  string
	Line, Event         int
}

// wantProblem checks that an answer is the problem of that name, and complete.
func wantProblem(t *testing.T, resp *http.Response, status int, name string) problemDoc {
	t.Helper()
	body := bodyOf(t, resp)
	var doc problemDoc
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("status %d, body %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || doc.Status != status || doc.Type != problem.URN+name {
		t.Fatalf("got %d %s, want %d %s", resp.StatusCode, body, status, name)
	}
	if doc.Detail == "" || doc.Title == "" {
		t.Errorf("%s does not say what was wrong", body)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	return doc
}

// kept are the events that a channel keeps, as type:data.
func kept(t *testing.T, e *testSite, channel string) []string {
	t.Helper()
	sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{
		Channels: []string{channel}, Start: broker.Start{Earliest: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	list := []string{}
	batch := broker.Batch{Decode: true, More: true}
	for batch.More {
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
		for _, d := range batch.Deliveries {
			list = append(list, d.Event.Type+":"+string(d.Event.Data))
		}
	}
	return list
}

// mustPost publishes as the backend, and fails the test if that fails.
func mustPost(t *testing.T, e *testSite, path, body string, header ...string) string {
	t.Helper()
	resp := ask(t, e, asBackend("POST", path, body, header...))
	got := bodyOf(t, resp)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %d %s", path, resp.StatusCode, got)
	}
	var doc struct{ ID string }
	if err := json.Unmarshal([]byte(got), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.ID
}

// newTransport speaks one version of HTTP, without TLS.
func newTransport(proto string) *http.Transport {
	var p http.Protocols
	p.SetHTTP1(proto == "HTTP/1.1")
	p.SetUnencryptedHTTP2(proto == "HTTP/2.0")
	return &http.Transport{Protocols: &p}
}

// over is a client that speaks one version of HTTP, until the test ends.
func over(t *testing.T, proto string) *http.Client {
	transport := newTransport(proto)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// blockReader reads a stream block by block.
type blockReader struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Reader
	cancel func()
}

// openStream subscribes.
func openStream(t *testing.T, e *testSite, path string, header ...string) *blockReader {
	t.Helper()
	return openStreamOver(t, e, "HTTP/1.1", path, header...)
}

// openStreamOver subscribes over one version of HTTP.
func openStreamOver(t *testing.T, e *testSite, proto, path string, header ...string) *blockReader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	resp, err := over(t, proto).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.Proto != proto {
		t.Fatalf("%s is served over %s", path, resp.Proto)
	}
	return &blockReader{t, resp, bufio.NewReader(resp.Body), cancel}
}

// next returns the next block: its lines, without the blank one.
func (r *blockReader) next() string {
	r.t.Helper()
	var block strings.Builder
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.t.Fatalf("after %q: %v", block.String(), err)
		}
		if line == "\n" {
			return block.String()
		}
		block.WriteString(line)
	}
}

// opened returns the cursor of the opening event.
func (r *blockReader) opened() string {
	r.t.Helper()
	_, id, _ := strings.Cut("\n"+r.opening(), "\nid: ")
	id, _, _ = strings.Cut(id, "\n")
	return id
}

// opening returns the block of the opening event, before or in which a greeting is.
func (r *blockReader) opening() string {
	r.t.Helper()
	block := r.next()
	if !strings.HasPrefix(block, ":") {
		r.t.Fatalf("the stream begins with %q", block)
	}
	if !strings.Contains(block, "event: evstream.open\n") {
		block = r.next()
	}
	if !strings.Contains(block, "event: evstream.open\n") {
		r.t.Fatalf("no opening event but %q", block)
	}
	return block
}

// event returns the next block without its id line.
func (r *blockReader) event() string {
	r.t.Helper()
	return idLine.ReplaceAllString(r.next(), "")
}

var (
	idLine = regexp.MustCompile(`(?m)^id: \d+-\d+\n`)
	anyID  = regexp.MustCompile(`"\d+-\d+"`)
)
