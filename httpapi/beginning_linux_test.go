package httpapi

import (
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/stream"
)

// stackHost records the stack on which a stream begins.
type stackHost struct {
	netHost
	stacks chan string
}

func (h stackHost) Record(*http.Request) any {
	h.stacks <- string(debug.Stack())
	return nil
}

func TestAStreamThatWillBeDetachedBeginsOnTheGoroutineOfItsHandler(t *testing.T) {
	for _, attached := range []bool{false, true} {
		host := stackHost{stacks: make(chan string, 1)}
		e := newTestHandler(t, func(c *testConfig) { c.Host, c.Streams.Attached = host, attached })
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.ServeHTTP(w, r) }))
		server.Config.ConnContext = stream.ConnContext
		server.Start()
		response, err := http.Get(server.URL + "/live/public/a")
		if err != nil {
			t.Fatal(err)
		}
		stack := <-host.stacks
		if ours := strings.Contains(stack, "net/http.(*conn).serve"); ours == attached {
			t.Errorf("attached %v: it began on\n%s", attached, stack)
		}
		_ = response.Body.Close()
		server.Close()
	}
}
