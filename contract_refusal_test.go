package evstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that waits for 100 Continue, or sends its body slowly, is told at once that
// it is refused.
func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		const backend = "Authorization: Bearer " + backendSecret
		for _, tt := range []struct {
			name, request string
			status        int
		}{
			{"nobody", "POST /live/a", 401},
			{"a parameter", "POST /live/a?evnt=x", 400},
			{"a value", "PUT /live/a", 401},
			{"a batch", "POST /live/_publish", 401},
			{"a path", "POST /live/a//b", 400},
			{"a method", "BREW /live/a", 405},
			{"a ticket", "POST /live/_tickets", 404},
			{"an encoding", "POST /live/a HTTP/1.1\r\n" + backend + "\r\nContent-Encoding: br", 415},
			{"a name", "POST /live/a%20b HTTP/1.1\r\n" + backend, 400},
		} {
			for _, way := range []string{"Content-Length: 5000\r\nExpect: 100-continue", "Content-Length: 5000", "Content-Length: 9000000", "Transfer-Encoding: chunked"} {
				t.Run(tt.name+", "+way, func(t *testing.T) {
					t.Parallel()
					conn, err := net.Dial("tcp", e.address)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					head := tt.request
					if !strings.Contains(head, "HTTP/1.1") {
						head += " HTTP/1.1"
					}
					_ = conn.SetDeadline(time.Now().Add(patience))
					fmt.Fprintf(conn, "%s\r\nHost: hub.example\r\n%s\r\n\r\n", head, way)
					answers := bufio.NewReader(conn)
					resp, err := http.ReadResponse(answers, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadAll(resp.Body); err != nil {
						t.Fatal(err)
					}
					if resp.StatusCode != tt.status || !resp.Close {
						t.Errorf("%d, closed %v; want %d", resp.StatusCode, resp.Close, tt.status)
					}
				})
			}
		}

		// An error after the body has come leaves the connection open.
		for range 2 {
			resp := ask(t, e, asBackend("POST", "/live/a", "a\xff"))
			if wantProblem(t, resp, 400, "bad-event"); resp.Close {
				t.Error("the connection is closed")
			}
		}
	})
}
