package evstream

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

func TestFlowingBodies(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const lines, events = "Content-Type: application/x-ndjson", "Content-Type: text/event-stream; charset=utf-8"
		for _, tt := range []struct {
			name, path, header, body string
			published                int
			want                     []string
		}{
			{"lines", "/live/a?event=token", lines, "{\"t\":1}\n{\"t\":2}\n", 2, []string{`token:{"t":1}`, `token:{"t":2}`}},
			{"empty lines and CR LF", "/live/a", lines, "\n1\r\n\r\n\n2\r\n", 2, []string{":1", ":2"}},
			{"a last line without an end", "/live/a", lines, "1\n2", 2, []string{":1", ":2"}},
			{"spaces are data", "/live/a", lines, " \n x \n", 2, []string{": ", ": x "}},
			{"a CR inside", "/live/a", lines, "a\rb\n", 1, []string{":a\nb"}},
			{"a line of the reader's size and longer", "/live/a", lines, strings.Repeat("x", 4096) + "\n" + strings.Repeat("y", 9000) + "\nz\n", 3, []string{":" + strings.Repeat("x", 4096), ":" + strings.Repeat("y", 9000), ":z"}},
			{"no lines", "/live/a", lines, "", 0, nil},
			{"only empty lines", "/live/a", lines, "\n\r\n\n", 0, nil},
			{"events", "/live/a", events, "event: add\ndata: 1\ndata: 2\n\n: hello\n\nretry: 10\n\ndata\n\n", 2, []string{"add:1\n2", ":"}},
			{"events with a default type", "/live/a?event=token", events, "data: 1\n\nevent: x\ndata: 2\n\n", 2, []string{"token:1", "x:2"}},
			{"events of another hub", "/live/a", events, "id: 1763687000123-0\ndata: 1\n\nid: evstream.end\nevent: end\ndata: \n\n", 2, []string{":1", "end:"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				resp := ask(t, e, asBackend("POST", tt.path, tt.body, tt.header))
				body := bodyOf(t, resp)
				var doc struct {
					Published int
					ID        string
				}
				if err := json.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 || doc.Published != tt.published {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
				if want := e.hub.Broker().Head().String(); tt.published > 0 && doc.ID != want {
					t.Errorf("id %s, want %s", doc.ID, want)
				}
				if tt.published == 0 && body != `{"published":0}` {
					t.Errorf("body %s", body)
				}
				if got := kept(t, e, "a"); !slices.Equal(got, tt.want) {
					t.Errorf("kept %q, want %q", got, tt.want)
				}
			})
		}
	})
}

func TestIDsOfRepublishedEventsAreKept(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		mustPost(t, e, "/live/a", "id: own-7\ndata: 1\n\ndata: 2\n\nid: 5-5\ndata: 3\n\n", "Content-Type: text/event-stream")
		sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: broker.Start{LastEventID: "own-7"}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		batch := broker.Batch{Decode: true}
		if err := sub.Read(&batch); err != nil || len(batch.Deliveries) != 2 || batch.Gap != nil {
			t.Fatalf("%+v, %v", batch, err)
		}
		for _, d := range batch.Deliveries {
			if d.Event.ID != d.ID.String() {
				t.Errorf("%s has the id %q", d.Event.Data, d.Event.ID)
			}
		}
	})
}

func TestAnErrorInTheMiddleTellsWhatWasPublished(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name, contentType, body string
			status                  int
			kind                    string
			published, line, event  int
		}{
			{"a line that is not UTF-8", "application/x-ndjson", "1\n\n2\n\xff\n3\n", 400, "bad-event", 2, 4, 0},
			{"a line that is too long", "application/x-ndjson", "1\n" + strings.Repeat("x", 70000) + "\n", 413, "too-large", 1, 2, 0},
			{"an event that is cut", "text/event-stream", "data: 1\n\ndata: 2", 400, "bad-body", 1, 0, 2},
			{"a type of the hub's", "text/event-stream", "data: 1\n\ndata: 2\n\nevent: evstream.gap\ndata: 3\n\n", 400, "bad-event", 2, 0, 3},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t, func(c *siteConfig) { c.handler.MaxBody = 1 << 16 })
				doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/a", tt.body, "Content-Type: "+tt.contentType)), tt.status, tt.kind)
				if doc.Published == nil || *doc.Published != tt.published || doc.Line != tt.line || doc.Event != tt.event {
					t.Errorf("got %+v", doc)
				}
				if doc.ID != e.hub.Broker().Head().String() {
					t.Errorf("id %q", doc.ID)
				}
				if got := kept(t, e, "a"); len(got) != tt.published {
					t.Errorf("kept %q", got)
				}
			})
		}
	})
}

func TestLinesOfABodyHaveKeysOfTheirOwn(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		post := func(body string) *http.Response {
			return ask(t, e, asBackend("POST", "/live/a", body, "Content-Type: application/x-ndjson", "Idempotency-Key: k"))
		}
		first := bodyOf(t, post("1\n2\n"))
		again := post("1\n\n2\n")
		if got := bodyOf(t, again); got != first || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("got %s, want %s", got, first)
		}
		longer := post("1\n2\n3\n")
		if longer.StatusCode != 200 || longer.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("longer: %s", bodyOf(t, longer))
		}
		doc := wantProblem(t, post("1\nother\n"), 422, "key-reused")
		if *doc.Published != 1 || doc.Line != 2 {
			t.Errorf("got %+v", doc)
		}
		if got := kept(t, e, "a"); !slices.Equal(got, []string{":1", ":2", ":3"}) {
			t.Errorf("kept %q", got)
		}
	})
}

func TestALineThatIsRefusedInPartTellsAllThatWasPublished(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const three = `{"channels":["a","b","c"],"data":"x"}`
		for _, tt := range []struct {
			name, key, used string // used are the events of a body before, by their place in it
			first, line     string
			status          int
			kind            string
			published       int
			want            string // the channels that the line was published to
		}{
			{"the first key was used", "k", "1", `{"channel":"d"}`, three, 422, "key-reused", 3, "b c"},
			{"a key between was used", "k", "2", `{"channel":"d"}`, three, 422, "key-reused", 3, "a c"},
			{"the last key was used", "k", "3", `{"channel":"d"}`, three, 422, "key-reused", 3, "a b"},
			{"two keys were used", "k", "1 2", `{"channel":"d"}`, three, 422, "key-reused", 2, "c"},
			{"all keys were used", "k", "1 2 3", `{"channel":"d"}`, three, 422, "key-reused", 1, ""},
			{"a value has no room", "", "", `{"channel":"b","state":1}`, `{"channels":["a","b","c"],"state":2}`, 507, "state-full", 2, "b"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t, withState, func(c *siteConfig) { c.broker.MaxStates = 1 })
				for i := range strings.FieldsSeq(tt.used) {
					op := broker.Op{Kind: broker.KindEvent, Channel: "d", Key: broker.Key{Identity: "bearer:backend", Key: tt.key + " " + i}}
					if _, err := e.hub.Broker().Publish(t.Context(), []broker.Op{op}); err != nil {
						t.Fatal(err)
					}
				}
				header := []string{"Content-Type: application/x-ndjson"}
				if tt.key != "" {
					header = append(header, "Idempotency-Key: "+tt.key)
				}
				// What comes after the line is not published.
				body := tt.first + "\n" + tt.line + "\n" + `{"channel":"e"}` + "\n"
				doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", body, header...)), tt.status, tt.kind)
				if doc.Published == nil || *doc.Published != tt.published || doc.Line != 2 || doc.ID != e.hub.Broker().Head().String() {
					t.Errorf("got %+v, and the head is %s", doc, e.hub.Broker().Head())
				}
				var got []string
				for _, channel := range []string{"a", "b", "c", "e"} {
					if len(kept(t, e, channel)) > 0 || string(e.hub.Broker().State(channel).Value) == "2" {
						got = append(got, channel)
					}
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("published to %q, want %q", got, tt.want)
				}
			})
		}
	})
}

// upload begins a body over a real connection that the test goes on to write.
func upload(t *testing.T, e *testSite, proto, path, contentType string) (*io.PipeWriter, func() (*http.Response, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	body, w := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+backendSecret)
	r.Header.Set("Content-Type", contentType)
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	client := over(t, proto)
	go func() {
		resp, err := client.Do(r)
		done <- result{resp, err}
	}()
	return w, func() (*http.Response, error) {
		got := <-done
		if got.err == nil {
			t.Cleanup(func() { _ = got.resp.Body.Close() })
		}
		return got.resp, got.err
	}
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestEventsAreSeenWhileTheBodyStillFlows(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct{ name, contentType, one, two string }{
			{"lines", "application/x-ndjson", "1\n", "2\n"},
			{"events", "text/event-stream", "data: 1\n\n", "data: 2\n\n"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				s := openStream(t, e, "/live/public/a")
				s.opened()
				body, answer := upload(t, e, "HTTP/1.1", "/live/public/a", tt.contentType)
				write(t, body, tt.one)
				if got := s.event(); got != "data: 1\n" {
					t.Fatalf("got %q", got)
				}
				write(t, body, tt.two)
				if got := s.event(); got != "data: 2\n" {
					t.Fatalf("got %q", got)
				}
				_ = body.Close()
				resp, err := answer()
				if err != nil {
					t.Fatal(err)
				}
				if got := bodyOf(t, resp); !strings.HasPrefix(got, `{"published":2,"id":"`) {
					t.Errorf("got %s", got)
				}
			})
		}
	})
}

func TestWhatAClientSentBeforeItLeftStaysPublished(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		conn, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		write(t, conn, "POST /live/a HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer "+backendSecret+
			"\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n1\n2\nhal\r\n")
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if doc := wantProblem(t, resp, 400, "bad-body"); *doc.Published != 2 || doc.Line != 3 {
			t.Errorf("got %+v", doc)
		}
		if got := kept(t, e, "a"); !slices.Equal(got, []string{":1", ":2"}) {
			t.Errorf("kept %q", got)
		}
	})
}

func TestAnErrorIsAnsweredWhileTheBodyStillFlows(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(proto, func(t *testing.T) {
				e := on.start(t, withHTTP2)
				body, answer := upload(t, e, proto, "/live/a", "application/x-ndjson")
				defer body.Close()
				write(t, body, "1\n\xff\n")
				resp, err := answer()
				if err != nil {
					t.Fatal(err)
				}
				if doc := wantProblem(t, resp, 400, "bad-event"); *doc.Published != 1 || doc.Line != 2 {
					t.Errorf("got %+v", doc)
				}
				if proto == "HTTP/1.1" && !resp.Close {
					t.Error("the connection is used again, though its body was not read")
				}
			})
		}
	})
}

func TestTheExitDoesNotWaitForABody(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(proto, func(t *testing.T) {
				e := on.start(t, withHTTP2)
				s := openStreamOver(t, e, proto, "/live/public/a")
				s.opened()
				body, answer := upload(t, e, proto, "/live/public/a", "application/x-ndjson")
				defer body.Close()
				write(t, body, "1\n")
				if got := s.event(); got != "data: 1\n" {
					t.Fatalf("got %q", got)
				}
				e.hub.Drain(0)
				resp, err := answer()
				if err != nil {
					t.Fatal(err)
				}
				if doc := wantProblem(t, resp, 503, "unavailable"); *doc.Published != 1 || !strings.Contains(doc.Detail, "shutting down") {
					t.Errorf("got %+v", doc)
				}
				if resp.Header.Get("Retry-After") != "2" {
					t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
				}
			})
		}
	})
}
