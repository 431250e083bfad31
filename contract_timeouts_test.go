package evstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheServersTimeoutsDoNotCutWhatTakesItsTime(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(proto, func(t *testing.T) {
				e := on.start(t, withRules("anyone all **"), withHTTP2, func(c *siteConfig) {
					c.timeout = time.Second // a page is served within it, and a stream is not
				})
				base := e.url + "/live/a"
				client := over(t, proto)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begin := func(method, url string, body io.Reader, header ...string) *http.Response {
					t.Helper()
					r, err := http.NewRequestWithContext(ctx, method, url, body)
					if err != nil {
						t.Fatal(err)
					}
					for _, line := range header {
						name, value, _ := strings.Cut(line, ": ")
						r.Header.Set(name, value)
					}
					resp, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = resp.Body.Close() })
					if resp.Proto != proto {
						t.Fatalf("served over %s", resp.Proto)
					}
					return resp
				}

				s := begin("GET", base, nil)
				events := &blockReader{t: t, resp: s, lines: bufio.NewReader(s.Body)}
				cursor := events.opened()

				body, w := io.Pipe()
				answered := make(chan string, 1)
				go func() {
					resp := begin("POST", base, body, "Content-Type: application/x-ndjson")
					b, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Error(err)
					}
					answered <- string(b)
				}()
				write(t, w, "1\n")
				if got := events.event(); got != "data: 1\n" {
					t.Fatalf("got %q", got)
				}

				// This waits for longer than the server allows.
				poll := begin("GET", base+"?poll=1&timeout=1500ms&event=other&last_event_id="+cursor, nil, "Accept: application/json")
				if got := bodyOf(t, poll); poll.StatusCode != 200 || !strings.HasPrefix(got, `{"events":[],`) {
					t.Errorf("the poll: %d %s", poll.StatusCode, got)
				}

				write(t, w, "2\n")
				if got := events.event(); got != "data: 2\n" {
					t.Fatalf("got %q", got)
				}
				_ = w.Close()
				if got := <-answered; !strings.HasPrefix(got, `{"published":2,`) {
					t.Errorf("the upload: %s", got)
				}
			})
		}
	})
}

// A client that announces a body and keeps it back holds nobody up for long.
func TestABodyThatNeverComesEndsASubscription(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone all **"), func(c *siteConfig) { c.bodyIdle = 100 * time.Millisecond })
		conn, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		write(t, conn, "GET /live/a HTTP/1.1\r\nHost: hub.example\r\nContent-Length: 10\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, resp, 400, "bad-body")
	})
}
