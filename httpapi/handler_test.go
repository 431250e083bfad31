package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// What is tested here is of one function, or needs a host, a log or a clock of
// the test's own. The contract as clients see it is tested by the root package,
// over real servers.

const backendSecret = "backend-secret"

// testConfig is what a test has a handler made of.
type testConfig struct {
	hub     hub.Config
	rules   []access.Rule
	bearers map[string]string
	Config
}

// newTestHandler serves some rules at /live, with a hub of its own.
func newTestHandler(t testing.TB, configure ...func(*testConfig)) *Handler {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	c := &testConfig{
		hub: hub.Config{Logger: quiet},
		rules: []access.Rule{
			{Who: access.Anyone, Do: []string{access.Subscribe}, Channels: []string{"public/**", "match.*"}},
			{Who: "backend", Do: []string{access.Publish, access.Subscribe, access.ChangeState}, Channels: []string{"**"}},
		},
		bearers: map[string]string{"backend": backendSecret},
		Config: Config{
			Mount:   "/live",
			Streams: Streams{Heartbeat: time.Minute, RetryMin: 2 * time.Second, RetryMax: 2 * time.Second},
			Logger:  quiet,
		},
	}
	for _, change := range configure {
		change(c)
	}
	h, err := hub.Open(broker.NewMemory(), c.hub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	callers := &auth.Config{Bearers: c.bearers}
	if c.Auth, err = auth.Open(callers, auth.Deps{Revocations: h, TicketStore: h, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Auth.Close)
	if c.Access == nil {
		if c.Access, err = access.NewPolicy(c.rules, callers.BearerNames(), callers.Any()); err != nil {
			t.Fatal(err)
		}
	}
	e, err := New(h, c.Config)
	if err != nil {
		t.Fatal(err)
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

// serve has a handler answer a request that is beneath its mount.
func serve(t testing.TB, e *Handler, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	if ours, err := e.Serve(w, r); !ours || err != nil {
		t.Fatalf("%s %s: %t, %v", r.Method, r.URL, ours, err)
	}
	return w.Result()
}

// ask makes a request that does not stream.
func ask(t testing.TB, e *Handler, q request) *http.Response {
	t.Helper()
	return serve(t, e, q.build())
}

// bodyOf is the body of an answer, without its line end.
func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b, []byte("\n")))
}

// problemDoc is a problem document, read.
type problemDoc struct {
	Type, Title, Detail string
	Status              int
	Outcome             string
	Published           *int
	Line                int
}

// wantProblem checks that an answer is the problem of that name.
func wantProblem(t testing.TB, resp *http.Response, status int, name string) problemDoc {
	t.Helper()
	body := bodyOf(t, resp)
	var doc problemDoc
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("status %d, body %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || doc.Status != status || doc.Type != problem.URN+name || doc.Detail == "" || doc.Title == "" {
		t.Fatalf("got %d %s, want %d %s", resp.StatusCode, body, status, name)
	}
	return doc
}

// mustPost publishes as the backend.
func mustPost(t testing.TB, e *Handler, path, body string, header ...string) {
	t.Helper()
	if resp := ask(t, e, asBackend("POST", path, body, header...)); resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %d %s", path, resp.StatusCode, bodyOf(t, resp))
	}
}

// kept are the events that a channel keeps, as type:data.
func kept(t testing.TB, e *Handler, channel string) []string {
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

func TestNewRefusesWhatCannotBeServed(t *testing.T) {
	h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	outer, err := auth.Open(&auth.Config{Outer: func(*http.Request) string { return "" }}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	inQuery, err := auth.Open(&auth.Config{Bearers: map[string]string{"b": "s3cret"}, QueryParameter: "channel"}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Config
		says string
	}{
		{"nothing is allowed", Config{}, "Access is not set"},
		{"a mount that ends in a slash", Config{Access: access.AllowAll(), Mount: "/live/"}, "without a final slash"},
		{"a mount that does not begin with one", Config{Access: access.AllowAll(), Mount: "live"}, `not "live"`},
		{"a mount with dots", Config{Access: access.AllowAll(), Mount: "/live/.."}, `not "/live/.."`},
		{"a mount with an escape", Config{Access: access.AllowAll(), Mount: "/li%76e"}, "wildcards or escapes"},
		{"a body below nothing", Config{Access: access.AllowAll(), MaxBody: -1}, "MaxBody must be above 0"},
		{"a drain below nothing", Config{Access: access.AllowAll(), Streams: Streams{Drain: -1}}, "Drain must not be below 0"},
		{"retries that cross", Config{Access: access.AllowAll(), Streams: Streams{RetryMin: 2, RetryMax: 1}}, "RetryMin must not be above RetryMax"},
		{"any origin beside what a browser sends unasked", Config{Access: access.AllowAll(), Auth: outer, CORS: []string{"*"}}, "cors * cannot stand beside"},
		{"a parameter of the hub's own", Config{Access: access.AllowAll(), Auth: inQuery}, `"channel" cannot have a credential`},
		{"an origin that is none", Config{Access: access.AllowAll(), CORS: []string{"example.com"}}, `"example.com" is not an origin`},
	} {
		if e, err := New(h, tt.c); err == nil || !strings.Contains(err.Error(), tt.says) || e != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if e, err := New(h, Config{Access: access.AllowAll(), Streams: Streams{RetryMax: time.Second}}); err != nil || e.stream.RetryMin != time.Second {
		t.Errorf("a short RetryMax alone: %v", err)
	}
	e, err := New(h, Config{Access: access.AllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	if e.Hub() != h || e.Mount() != "" || e.Host() != (netHost{}) || e.maxBody != DefaultMaxBody || e.overload != http.StatusOK ||
		e.stream != (Streams{Heartbeat: 15 * time.Second, RetryMin: 2 * time.Second, RetryMax: 5 * time.Second, WriteTimeout: 10 * time.Second, Drain: 5 * time.Second}) {
		t.Errorf("the defaults are %+v", e)
	}
}

func TestServeHTTPAnswersOutsideOfTheMountWithAProblem(t *testing.T) {
	e := newTestHandler(t, func(c *testConfig) { c.CORS = []string{"https://app.example"} })
	for _, path := range []string{"/", "/livestock/a", "/live/../x"} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, asBackend("POST", path, "x", "Origin: https://app.example").build())
		if doc := wantProblem(t, w.Result(), 404, "not-found"); doc.Detail != "the path lies outside of /live/" {
			t.Errorf("%s: %s", path, doc.Detail)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, w.Header())
		}
		// Serve leaves it to whoever else there is.
		w = httptest.NewRecorder()
		if ours, err := e.Serve(w, request{method: "GET", path: path}.build()); ours || err != nil || len(w.Header()) > 0 || w.Body.Len() > 0 {
			t.Errorf("%s: %t, %v, %v", path, ours, err, w.Header())
		}
	}
	w := httptest.NewRecorder()
	if e.ServeHTTP(w, asBackend("POST", "/live/a", "x").build()); w.Code != http.StatusOK {
		t.Errorf("within the mount: %d %s", w.Code, w.Body)
	}
}

// failingHost answers problems itself, and cannot.
type failingHost struct{ netHost }

func (failingHost) Fail(http.ResponseWriter, *problem.Error) (bool, error) {
	return true, errors.New("no template")
}

func TestServeHTTPAnswersWhatItsHostCannot(t *testing.T) {
	e := newTestHandler(t, func(c *testConfig) { c.Host = failingHost{} })
	w := httptest.NewRecorder()
	if e.ServeHTTP(w, request{method: "POST", path: "/live/a"}.build()); w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTheHostOfNetHTTP(t *testing.T) {
	var host Host = netHost{}
	for remote, want := range map[string]string{"192.0.2.1:1234": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "@": "@"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		if got := host.ClientIP(r); got != want {
			t.Errorf("%s: got %s, want %s", remote, got, want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	if c := host.Conn(r); c != nil {
		t.Errorf("a connection of nobody: %v", c)
	}
	conn, other := net.Pipe()
	defer other.Close()
	defer conn.Close()
	if c := host.Conn(r.WithContext(stream.ConnContext(r.Context(), conn))); c != conn {
		t.Errorf("the connection is %v", c)
	}
	w := httptest.NewRecorder()
	if handled, err := host.Fail(w, problem.NotFound.Because("it is not there")); handled || err != nil || w.Body.Len() > 0 {
		t.Errorf("%t, %v: %s", handled, err, w.Body)
	}
	host.LiftTimeouts(r, time.Second, time.Second)()
	if record, line := host.Record(r), host.BeginLog(r, nil); record != nil || line != nil {
		t.Errorf("it takes down %v, %v", record, line)
	}
}
