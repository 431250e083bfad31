package grip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi"
)

// site is a proxy in front of an application, and what it logs.
type site struct {
	t         *testing.T
	url       string
	publisher *Publisher

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *site) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *site) logged(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.log.String(), text)
}

// newSite serves an application whose answers are in the form of headersOf, a blank line,
// and the body.
func newSite(t *testing.T, app func(r *http.Request) string) *site {
	t.Helper()
	s := &site{t: t, publisher: newPublisher(t)}
	logger := slog.New(slog.NewTextHandler(s, nil))
	streams, err := httpapi.New(s.publisher.Hub, httpapi.Config{Access: access.AllowAll(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{Streams: streams, Keys: s.publisher.Keys[0], Logger: logger})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = p.Serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("Grip-Sig") == "" || r.Header.Get("Grip-Feature") != Features {
				t.Errorf("%s %s came without a signature", r.Method, r.URL)
			}
			head, body, _ := strings.Cut(app(r), "\n\n")
			maps.Copy(w.Header(), headersOf(head))
			_, err := io.WriteString(w, body)
			return err
		})
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { s.publisher.Hub.Drain(0) })
	s.url = server.URL
	return s
}

// open opens a stream.
func (s *site) open(path string) (expect func(want string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	r.Header.Set("Cookie", "of=the-client")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.Status)
	}
	return func(want string) {
		s.t.Helper()
		if want == "" {
			if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != ":\n" {
				s.t.Fatalf("the stream ends with %q, %v", rest, err)
			}
			return
		}
		got := make([]byte, len(want))
		if n, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			s.t.Fatalf("the stream has %q, %v, want %q", got[:n], err, want)
		}
	}
}

// publish publishes items, in JSON.
func (s *site) publish(items ...string) {
	s.t.Helper()
	if w := send(s.publisher, "POST", `{"items":[`+strings.Join(items, ",")+`]}`); w.Code != 200 {
		s.t.Fatal(w.Code, w.Body)
	}
}

// item is an item with an id and the one before, in JSON.
func itemOf(channel string, id int, content string) string {
	return fmt.Sprintf(`{"channel":%q,"id":"%d","prev-id":"%d","http-stream":{"content":%q}}`, channel, id, id-1, content)
}

const held = "Content-Type: text/event-stream\nGrip-Hold: stream\n"

func TestFiltersSayWhoGetsAnItem(t *testing.T) {
	s := newSite(t, func(r *http.Request) string {
		return held + "Grip-Channel: a; filter=skip-self; filter=skip-users, user-5; filter=require-sub" + r.URL.Query().Get("more") + "\nGrip-Set-Meta: user=\"ann\"\n\n:\n\n"
	})
	ann, with := s.open("/"), s.open("/?more=,%20news")
	ann(":\n\n")
	with(":\n\n")
	s.publish(
		`{"channel":"a","http-stream":{"content":"data: 1\n\n"},"meta":{"sender":"ann"}}`,
		`{"channel":"a","http-stream":{"content":"data: 2\n\n"},"meta":{"skip_users":"bob, ann"}}`,
		`{"channel":"a","http-stream":{"content":"data: 3\n\n"},"meta":{"sender":"bob","skip_users":"bob","require_sub":"news"}}`,
		`{"channel":"user-5","http-stream":{"content":"data: 4\n\n"},"meta":{"sender":"ann","require_sub":"news"}}`,
		`{"channel":"a","http-stream":{"content":"data: 5%I\n\n","content-filters":["build-id"]}}`,
		`{"channel":"a","http-stream":{"content":"data: 6\n\n","content-filters":[]}}`,
	)
	ann("data: 3\n\ndata: 6\n\n")
	with("data: 3\n\ndata: 4\n\ndata: 6\n\n")
}

// Each stream with build-id gets the ids of its own channels, as django-eventstream asks.
func TestIDsAreBuiltForEachStream(t *testing.T) {
	s := newSite(t, func(r *http.Request) string {
		return held + "Grip-Channel: events-a; prev-id=1; filter=build-id; filter=var-subst, events-b; prev-id=7; filter=build-id; filter=var-subst\n" +
			"Grip-Set-Meta: name=\"Ann\", id_format=\"a:%(events-a)s,b:%(events-b)s\"\nGrip-Link: </next>; rel=next\n\nid: %I\ndata: 100%%\n\n"
	})
	read := s.open("/")
	read("id: a:1,b:7\ndata: 100%\n\n")
	const filters = `"content-filters":["build-id","var-subst"]`
	s.publish(
		`{"channel":"events-a","id":"2","prev-id":"1","http-stream":{"content":"id: %I\ndata: hello %%(name)s, 100%%%%\n\n",`+filters+`}}`,
		`{"channel":"events-b","id":"8","prev-id":"7","http-stream":{"content":"event: x\nid: %I\ndata: %(own)I\n\n",`+filters+`}}`,
		`{"channel":"events-b","id":"9","prev-id":"8","http-stream":{"content":"data: %q\n\n",`+filters+`}}`, // cannot be sent
		`{"channel":"events-b","id":"10","prev-id":"9","http-stream":{"content":"id: %I\ndata: \n\n",`+filters+`}}`,
	)
	read("id: a:2,b:7\ndata: hello Ann, 100%\n\nid: a:2,b:8\nevent: x\ndata: own\n\nid: a:2,b:10\ndata: \n\n")
	if !s.logged("not %q") {
		t.Error("what cannot be sent is not logged")
	}
}

// Without a hold the next link leads to the rest: to a stream, or to the end of the answer.
func TestPagesAreFetchedAtOnce(t *testing.T) {
	s := newSite(t, func(r *http.Request) string {
		if r.URL.Path != "/" && r.Header.Get("Cookie") != "" {
			t.Error("a request of the proxy's own has the client's cookies")
		}
		switch r.URL.RequestURI() {
		case "/":
			return "Content-Type: text/event-stream\nX-First: 1\nGrip-Link: </pages/2>; rel=next\n\ndata: 1\n\n"
		case "/pages/2":
			return "Grip-Link: <3?x>; rel=next\n\ndata: 2\n\n"
		case "/pages/3?x":
			return held + "Grip-Channel: a\n\ndata: 3\n\n"
		case "/whole":
			return "Content-Type: text/plain\nContent-Length: 1\nGrip-Status: 201\nGrip-Expose-Headers: X-A\nX-A: 1\nX-B: 1\nGrip-Link: </end>; rel=next\n\na"
		case "/status":
			return "Content-Type: text/plain\nX-A: 1\nX-B: 1\nGrip-Status: 404 Not There\nGrip-Expose-Headers: X-A\nGrip-Channel: \n\nno"
		}
		return "X: y\n\nb"
	})
	read := s.open("/")
	read("data: 1\n\ndata: 2\n\ndata: 3\n\n")
	s.publish(`{"channel":"a","http-stream":{"content":"data: 4\n\n"}}`)
	read("data: 4\n\n")
	for path, want := range map[string]string{"/whole": "201 ab", "/status": "404 no"} {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", string(body)); got != want || resp.Header.Get("X-A") != "1" || resp.Header.Get("X-B") != "" || resp.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: %s %v", path, got, resp.Header)
		}
	}
}

// A stream that misses an item has the application asked, once, with the ids that it has;
// what comes meanwhile follows, each item once. Then the application ends the stream, and
// is told that the client has gone.
func TestAMissingItemHasTheApplicationAsked(t *testing.T) {
	var mu sync.Mutex
	var asked, gone []string
	answer := make(chan string)
	s := newSite(t, func(r *http.Request) string {
		const more = "Grip-Channel: room 1; prev-id=%s, b\nGrip-Link: </next>; rel=next, </gone>; rel=gone\n\n%s"
		switch r.URL.Path {
		case "/":
			return held + fmt.Sprintf(more, "1", "data: 1\n\n")
		case "/gone":
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, r.Method)
			return "X: y\n\n"
		}
		mu.Lock()
		asked = append(asked, r.Header["Grip-Last"]...)
		mu.Unlock()
		id := <-answer
		if id == "" {
			return "X: y\n\ndata: bye\n\n"
		}
		return held + fmt.Sprintf(more, id, "data: up to "+id+"\n\n")
	})
	read := s.open("/")
	read("data: 1\n\n")
	s.publish(itemOf("room 1", 2, "data: 2\n\n"), itemOf("room 1", 2, "data: again\n\n"))
	read("data: 2\n\n")
	s.publish(itemOf("room 1", 4, "data: 4\n\ndata: 4b\n\n"), itemOf("room 1", 5, "data: 5\n\ndata: 5b\n\n"), itemOf("room 1", 6, "data: 6\n\n"), `{"channel":"b","http-stream":{"content":"data: b\n\n"}}`)
	answer <- "5"
	read("data: up to 5\n\ndata: 6\n\ndata: b\n\n")
	s.publish(itemOf("room 1", 7, "data: 7\n\n"))
	read("data: 7\n\n")
	s.publish(`{"channel":"b","http-stream":{"action":"hint"}}`)
	answer <- ""
	read("data: bye\n\n")
	read("")
	eventually(t, "the application to be told that the client has gone", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(gone, []string{"POST"})
	})
	if !slices.Equal(asked, []string{"room 1; last-id=2", "room 1; last-id=7"}) {
		t.Errorf("asked with %q", asked)
	}
}

// What cannot be followed is 502, with its reason in the log alone.
func TestWhatCannotBeHeldIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ answer, logs string }{
		"response":     {"Content-Type: text/event-stream\nGrip-Hold: response\nGrip-Channel: secret\n\n", "response is not done here"},
		"text":         {"Content-Type: text/plain\nGrip-Hold: stream\nGrip-Channel: secret\n\n", "must be text/event-stream"},
		"a status":     {held + "Grip-Status: 202\nGrip-Channel: secret\n\n", "a stream is 200"},
		"instruct":     {"Content-Type: application/grip-instruct; x=1\n\n{}", "grip-instruct"},
		"compressed":   {held + "Content-Encoding: br\nGrip-Channel: secret\n\n", "compressed"},
		"a link away":  {held + "Grip-Channel: secret\nGrip-Link: <http://evil.example/>; rel=next\n\n", "evil.example"},
		"large":        {held + "Grip-Channel: secret\n\n" + strings.Repeat(":\n", maxAnswer), "more than"},
		"a template":   {held + "Grip-Channel: a; filter=build-id\nGrip-Set-Meta: id_format=x\n\ndata: %q\n\n", "its body"},
		"another page": {"Grip-Link: </loop>; rel=next\n\n", "1000 pages"},
	} {
		s := newSite(t, func(*http.Request) string { return tt.answer })
		resp, err := http.Get(s.url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway || strings.Contains(string(body), "secret") || !strings.Contains(string(body), "bad-answer") || !s.logged(tt.logs) || resp.Header.Get("Grip-Hold") != "" {
			t.Errorf("%s: %s %s, %s", name, resp.Status, body, s.log.String())
		}
	}
}

// A keep-alive is sent as the application says it, in its own time.
func TestKeepAlivesAreTheApplications(t *testing.T) {
	s := newSite(t, func(*http.Request) string {
		return held + "Grip-Channel: a\nGrip-Keep-Alive: event: keep-alive\\ndata:\\n\\n; format=cstring; timeout=1; mode=interval\n\ndata: 1\n\n"
	})
	s.open("/")("data: 1\n\nevent: keep-alive\ndata:\n\n")
}

// Any status but 200 would end an EventSource for good.
func TestAStreamOverALimitIsAskedToComeBack(t *testing.T) {
	s := newSite(t, func(*http.Request) string { return held + "Grip-Channel: a\n\n:\n\n" })
	s.publisher.Hub.Drain(0)
	resp, err := http.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(string(body), "\nretry: ") {
		t.Errorf("%s %v %q, %v", resp.Status, resp.Header, body, err)
	}
}

// Without an item the application is asked again after the timeout of its link, and gets
// the ids that the client has.
func TestTheApplicationIsAskedAgainAfterTheTimeout(t *testing.T) {
	asked := make(chan string, 1)
	s := newSite(t, func(r *http.Request) string {
		if r.URL.Path == "/next" {
			asked <- r.Header.Get("Grip-Last")
			return held + "Grip-Channel: a; prev-id=8\nGrip-Link: </last>; rel=next; timeout=600\n\ndata: 8\n\n"
		}
		return held + "Grip-Channel: a; prev-id=7\nGrip-Link: </next>; rel=next; timeout=1\n\ndata: 7\n\n"
	})
	read := s.open("/")
	read("data: 7\n\ndata: 8\n\n")
	if last := <-asked; last != "a; last-id=7" {
		t.Errorf("asked with %q", last)
	}
	s.publish(itemOf("a", 9, "data: 9\n\n"))
	read("data: 9\n\n")
}
