package httpapi

import (
	"io"
	"runtime"
	"strings"
	"testing"
)

// panicReader panics when it is read.
type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("a handler in front") }

func TestAPanicInABodyOfLinesLeavesNoGoroutine(t *testing.T) {
	e := newTestHandler(t)
	for _, contentType := range []string{"application/x-ndjson", "text/event-stream"} {
		r := asBackend("POST", "/live/a", "", "Content-Type: "+contentType).build()
		r.ContentLength, r.Body = -1, io.NopCloser(panicReader{})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("nothing panicked")
				}
			}()
			serve(t, e, r)
		}()
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if n := strings.Count(string(stacks), "(*longRequest).flow.func"); n > 0 {
		t.Errorf("%d goroutines wait for an exit", n)
	}
}
