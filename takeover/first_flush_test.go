package takeover

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A reader gets what the application flushes, and much that it does not flush, at once; little
// waits, as it does in a server.
func TestWhatIsNotFlushedWaitsAsItDoesInAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		f := newFirst(w, httptest.NewRequest(http.MethodPost, "/", nil))
		want := ""
		for _, s := range []struct {
			step step
			then string // that the client has got more
		}{
			{step{status: http.StatusOK, header: http.Header{}}, ""},
			{step{data: []byte("a")}, ""},
			{step{flush: true}, "a"},
			{step{data: []byte("b")}, ""},
			{step{data: []byte("c"), flush: true}, "bc"},
			{step{data: []byte(strings.Repeat("d", maxUnflushed))}, strings.Repeat("d", maxUnflushed)},
			{step{data: []byte("e")}, ""},
		} {
			f.add(s.step)
			synctest.Wait()
			if want += s.then; w.Body.String() != want {
				t.Fatalf("got %q, want %q", w.Body, want)
			}
		}
		if cut := f.end(); cut || w.Body.String() != want+"e" {
			t.Errorf("cut: %v, %q", cut, w.Body)
		}
	})
}

// outer is a writer in front, whose own deadlines are not for other goroutines.
type outer struct {
	http.ResponseWriter
	t *testing.T
}

func (o outer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o outer) SetWriteDeadline(time.Time) error {
	o.t.Error("the deadline of a writer in front is set")
	return nil
}

// inner is a server's writer. A write to it waits until it is interrupted for the second time:
// a writer in front has put the deadline off at the first.
type inner struct {
	*httptest.ResponseRecorder
	interrupts chan struct{}
}

func (i inner) Write([]byte) (int, error) {
	<-i.interrupts
	<-i.interrupts
	return 0, io.ErrClosedPipe
}

func (i inner) SetWriteDeadline(time.Time) error { i.interrupts <- struct{}{}; return nil }

// A client that has left holds nobody up, whatever stands in front.
func TestAStalledWriteIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodPost, "/", nil).WithContext(ctx)
		f := newFirst(outer{inner{httptest.NewRecorder(), make(chan struct{})}, t}, r)
		f.add(step{data: []byte("x"), flush: true})
		synctest.Wait()
		leave()
		if cut := f.end(); cut {
			t.Error("a client that has left is cut off")
		}
	})
}
