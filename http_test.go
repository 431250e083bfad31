package evstream

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Secrets and rules of the endpoint that most tests use.
const (
	backendSecret = "backend-secret"
	guestSecret   = "guest-secret"
)

var testRules = []AllowRule{
	{Who: "anyone", Do: []string{"subscribe"}, Channels: []string{"public/**", "match.*"}},
	{Who: "backend", Do: []string{"publish", "subscribe"}, Channels: []string{"**"}},
}

// newTestHub is a hub with a memory log and those bounds.
func newTestHub(t *testing.T, cfg broker.Config) *hub {
	t.Helper()
	h, err := openHub(hubKey{name: "test"}, MemoryAdapter{}, brokerSettings{broker: cfg, maxPerAddress: 200, maxPerUser: int(Unlimited)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Destruct(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// newTestEndpoint serves testRules at /live. configure may change it.
func newTestEndpoint(t *testing.T, configure ...func(*endpoint)) *endpoint {
	t.Helper()
	a, err := newAccess(testRules, map[string]string{"backend": backendSecret, "guest": guestSecret})
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{
		hub:    newTestHub(t, broker.DefaultConfig()),
		mount:  "/live",
		access: a,
		stream: streamSettings{
			heartbeat: time.Minute, retryMin: 2 * time.Second, retryMax: 2 * time.Second, writeTimeout: 10 * time.Second,
		},
		maxBody:  1 << 20,
		overload: http.StatusOK,
		logger:   slog.New(slog.DiscardHandler),
	}
	for _, change := range configure {
		change(e)
	}
	return e
}

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

// ask serves a request that does not stream.
func ask(t *testing.T, e *endpoint, q request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	if err := e.serve(w, q.build(), nil); err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return w.Result()
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
	if resp.StatusCode != status || doc.Status != status || doc.Type != problemURN+name {
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
func kept(t *testing.T, e *endpoint, channel string) []string {
	t.Helper()
	sub, err := e.hub.broker.Subscribe(broker.SubscribeOptions{
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

// startServer serves an endpoint over real connections.
func startServer(t *testing.T, e *endpoint) *httptest.Server {
	t.Helper()
	return startServerOver(t, e, "HTTP/1.1")
}

// startServerOver serves an endpoint over one version of HTTP.
func startServerOver(t *testing.T, e *endpoint, proto string) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := e.serve(w, r, nil); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	}))
	transport := newTransport(proto)
	server.Config.Protocols = transport.Protocols
	server.Start()
	server.Client().Transport = transport
	t.Cleanup(server.Close)
	return server
}

// blockReader reads a stream block by block.
type blockReader struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Reader
	cancel func()
}

// openStream subscribes over a real connection.
func openStream(t *testing.T, server *httptest.Server, path string, header ...string) *blockReader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
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

// opened skips the greeting and returns the cursor of the opening event.
func (r *blockReader) opened() string {
	r.t.Helper()
	if greeting := r.next(); !strings.HasPrefix(greeting, ":") {
		r.t.Fatalf("the stream begins with %q", greeting)
	}
	block := r.next()
	if !strings.Contains(block, "event: evstream.open\n") {
		r.t.Fatalf("no opening event but %q", block)
	}
	return block[len("id: "):strings.IndexByte(block, '\n')]
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

// mustPost publishes as the backend, and fails the test if that fails.
func mustPost(t *testing.T, e *endpoint, path, body string, header ...string) string {
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
