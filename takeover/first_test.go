package takeover

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// panicking is a handler in front that cannot take what it gets.
type panicking struct{ *httptest.ResponseRecorder }

func (panicking) Write([]byte) (int, error) { panic("too much") }

// What a handler in front panics with reaches the goroutine of the request, and nothing
// waits for what is not written any more.
func TestAPanicInFrontIsNotTheServers(t *testing.T) {
	f := newFirst(panicking{httptest.NewRecorder()}, httptest.NewRequest(http.MethodPost, "/", nil))
	f.wait()
	for f.add(step{data: []byte(strings.Repeat("x", maxLag))}) {
		continue
	}
	if cut := f.end(); !cut || f.panicked() != "too much" {
		t.Errorf("cut: %v, %v", cut, f.panicked())
	}
}

// One write of much is no lag.
func TestAReaderIsNotBehindBecauseMuchIsWrittenAtOnce(t *testing.T) {
	w := httptest.NewRecorder()
	f := newFirst(w, httptest.NewRequest(http.MethodPost, "/", nil))
	f.add(step{data: make([]byte, 2*maxLag)})
	if cut := f.end(); cut || w.Body.Len() != 2*maxLag {
		t.Errorf("cut: %v, %d bytes", cut, w.Body.Len())
	}
}

// stalled is a client that takes nothing until it is released.
type stalled struct {
	*httptest.ResponseRecorder
	released chan struct{}
}

func (s stalled) Write(p []byte) (int, error) { <-s.released; return len(p), nil }

// What waits for a slow reader is bounded, however little is written at a time.
func TestSmallStepsOfASlowReaderAreBounded(t *testing.T) {
	w := stalled{httptest.NewRecorder(), make(chan struct{})}
	f := newFirst(w, httptest.NewRequest(http.MethodPost, "/", nil))
	n := 0
	for f.add(step{data: []byte("x"), flush: true}) && n < maxLag {
		n++
	}
	close(w.released)
	if cut := f.end(); !cut || n > maxLag/stepCost {
		t.Errorf("cut: %v, after %d steps", cut, n)
	}
}
