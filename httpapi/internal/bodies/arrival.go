// Package bodies reads the bodies of requests, and ignores those that should not be there.
package bodies

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Arrival is a request with a body over HTTP/1, and its answer. It knows whether the body
// has been read: a server would read the rest of it before it sends an error, and a client
// that waits for the answer, or for 100 Continue, would wait for a timeout.
//
// The request is a copy: the server looks at the body of the original to find out
// whether it has to send 100 Continue.
type Arrival struct {
	http.ResponseWriter
	request http.Request
	body    io.ReadCloser
	left    int64 // of the body; below 0 as long as that is not known
}

// Arrive returns w and r as handlers are to use them.
func Arrive(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return w, r
	}
	a := &Arrival{ResponseWriter: w, request: *r, body: r.Body, left: r.ContentLength}
	a.request.Body = a
	return a, &a.request
}

// Unwrap is for http.ResponseController.
func (a *Arrival) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Read implements io.Reader.
func (a *Arrival) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if a.left > 0 {
		a.left -= int64(n)
	}
	if errors.Is(err, io.EOF) {
		a.left = 0
	}
	return n, err
}

// Close implements io.Closer.
func (a *Arrival) Close() error { return a.body.Close() }

// Refuse is called before an error is written.
func (a *Arrival) Refuse() {
	if a.left != 0 {
		Abandon(a.ResponseWriter, &a.request)
	}
}

// What is read of a body after a refusal, and for how long.
const (
	maxDrained = 256 << 10
	drainTime  = 500 * time.Millisecond
)

// Drain sends the refusal, and reads what is on its way of the body: a connection that
// is closed with data unread is reset, and a reset can take the answer from a client
// that has not read it yet. Of one that waits for 100 Continue nothing will come.
func (a *Arrival) Drain() {
	if a.left == 0 || a.request.Header.Get("Expect") != "" {
		return
	}
	ctrl := http.NewResponseController(a.ResponseWriter)
	if ctrl.Flush() != nil || ctrl.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, a.body, maxDrained)
}
