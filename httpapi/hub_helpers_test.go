package httpapi

import (
	"encoding/json"
	"io"
	"log/slog"
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
)

// hubBackend is the secret of the bearer "backend", who may do everything.
const hubBackend = "backend-secret"

// hubSetup is a handler of a hub, for tests of what hubs refuse. All may be left
// out.
type hubSetup struct {
	log   broker.Log // default: in memory
	hub   hub.Config
	auth  auth.Config   // beside the bearer "backend"
	rules []access.Rule // default: anyone may do everything
	http  Config
}

// hubHandler serves a hub at /live, to anyone by default.
func hubHandler(t testing.TB, s hubSetup) *Handler {
	t.Helper()
	if s.log == nil {
		s.log = broker.NewMemory()
	}
	quiet := slog.New(slog.DiscardHandler)
	s.hub.Logger = quiet
	h, err := hub.Open(s.log, s.hub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return hubHandlerOf(t, h, s)
}

// hubHandlerOf is hubHandler of a hub that there is.
func hubHandlerOf(t testing.TB, h *hub.Hub, s hubSetup) *Handler {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s.auth.Bearers = map[string]string{"backend": hubBackend}
	a, err := auth.Open(&s.auth, auth.Deps{Revocations: h, TicketStore: h, Scope: []string{h.Name(), "/live"}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if s.rules == nil {
		s.rules = []access.Rule{{Who: access.Anyone, Do: []string{access.Everything}, Channels: []string{"**"}}}
	}
	policy, err := access.NewPolicy(s.rules, s.auth.BearerNames(), true)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Mount, s.http.Access, s.http.Auth, s.http.Logger = "/live", policy, a, quiet
	s.http.Streams = Streams{Heartbeat: time.Minute, RetryMin: 2 * time.Second, RetryMax: 2 * time.Second}
	e, err := New(h, s.http)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// hubRequest is a request from the address 192.0.2.1. Header lines are
// "Name: value".
func hubRequest(method, path, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://hub.example"+path, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// hubAsk serves a request that does not stream.
func hubAsk(t testing.TB, e *Handler, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	ours, err := e.Serve(w, r)
	if !ours || err != nil {
		t.Fatalf("%s %s: %t, %v", r.Method, r.URL, ours, err)
	}
	return w.Result()
}

// hubAnswer is hubAsk for a request of a few words.
func hubAnswer(t testing.TB, e *Handler, method, path, body string, header ...string) *http.Response {
	t.Helper()
	return hubAsk(t, e, hubRequest(method, path, body, header...))
}

// hubPoll asks for what is new in a channel, or more.
func hubPoll(t testing.TB, e *Handler, channel string, header ...string) *http.Response {
	t.Helper()
	return hubAnswer(t, e, "GET", "/live/"+channel+"?poll=1", "", append(header, "Accept: application/json")...)
}

// hubMustPost publishes as the backend.
func hubMustPost(t testing.TB, e *Handler, path, body string) {
	t.Helper()
	resp := hubAnswer(t, e, "POST", path, body, "Authorization: Bearer "+hubBackend)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %d %s", path, resp.StatusCode, hubBody(t, resp))
	}
}

// hubBody reads an answer.
func hubBody(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hubProblemDoc is a problem document, read.
type hubProblemDoc struct {
	Type, Title, Detail string
	Status              int
	Published           *int
	Pointer             *string
	Line, Event         int
}

// hubProblem checks that an answer is the problem of that name, and complete.
func hubProblem(t testing.TB, resp *http.Response, status int, name string) hubProblemDoc {
	t.Helper()
	body := hubBody(t, resp)
	var doc hubProblemDoc
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

// hubTurnedAway checks that a stream is told to come back, in the way that an
// EventSource survives.
func hubTurnedAway(t testing.TB, resp *http.Response) {
	t.Helper()
	body := hubBody(t, resp)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "retry: ") || strings.Contains(body, "evstream.open") {
		t.Errorf("a stream: %d %s", resp.StatusCode, body)
	}
}

// hubServer serves a handler over real connections.
func hubServer(t testing.TB, e *Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return server
}

// hubStream opens a stream over a real connection, and reads its opening. It
// ends with cancel.
func hubStream(t testing.TB, server *httptest.Server, path string, header ...string) (cancel func()) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, nil)
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
	cancel = func() { _ = resp.Body.Close() }
	t.Cleanup(cancel)
	opening := make([]byte, 0, 4<<10)
	for !strings.Contains(string(opening), "event: evstream.open") {
		n, err := resp.Body.Read(opening[len(opening):cap(opening)])
		if opening = opening[:len(opening)+n]; err != nil {
			t.Fatalf("the stream begins with %d %q, %v", resp.StatusCode, opening, err)
		}
	}
	return cancel
}

// hubEventually waits for a condition.
func hubEventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
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
