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
