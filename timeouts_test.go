package evstream

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

// tightTimeouts are ceilings that a page is served within and a stream is not.
const tightTimeouts = `	servers {
		protocols h1 h2c
		timeouts {
			read_body 200ms
			read_body_idle 200ms 1000000
			write 200ms
			write_idle 200ms 1000000
			idle 1m
		}
	}`

func TestTheServersTimeoutsDoNotCutWhatTakesItsTime(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			address := freeAddress(t)
			load(t, site(address, tightTimeouts, "\t\tallow anyone all **"))
			base := "http://" + address + "/live/a"
			client := &http.Client{Transport: newTransport(proto)}
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

			// This waits for five times what the server allows.
			poll := begin("GET", base+"?poll=1&timeout=1s&event=other&last_event_id="+cursor, nil, "Accept: application/json")
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
}

// newTransport speaks one version of HTTP, without TLS.
func newTransport(proto string) *http.Transport {
	var p http.Protocols
	p.SetHTTP1(proto == "HTTP/1.1")
	p.SetUnencryptedHTTP2(proto == "HTTP/2.0")
	return &http.Transport{Protocols: &p}
}

// A client that announces a body and keeps it back holds nobody up for long.
func TestABodyThatNeverComesEndsASubscription(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "\tservers {\n\t\ttimeouts {\n\t\t\tread_body_idle 100ms\n\t\t}\n\t}", "\t\tallow anyone all **"))
	body, w := io.Pipe()
	defer w.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/live/a", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 10
	resp, err := (&http.Client{Transport: newTransport("HTTP/1.1")}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wantProblem(t, resp, 400, "bad-body")
}
