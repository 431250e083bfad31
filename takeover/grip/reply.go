package grip

import (
	"fmt"
	"net/http"

	"github.com/evstream/caddy-evstream/takeover"
	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// replyWriter takes the answer to a request of the proxy's own.
type replyWriter struct {
	header http.Header
	status int
	body   []byte
	err    error
}

// ask has next answer.
func (r *replyWriter) ask(own *http.Request, next takeover.Next) (err error) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // it is the value itself
			err = answers.ErrCutOff
		} else if p != nil {
			err = fmt.Errorf("a panic: %v", p) // not on the goroutine of a server, which would recover
		}
	}()
	return next(r, own)
}

// Header implements http.ResponseWriter.
func (r *replyWriter) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *replyWriter) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
}

// Write implements io.Writer.
func (r *replyWriter) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if len(r.body)+len(p) > maxAnswer {
		r.err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
		return 0, r.err
	}
	r.body = append(r.body, p...)
	return len(p), nil
}

// Flush implements http.Flusher.
func (r *replyWriter) Flush() { r.WriteHeader(http.StatusOK) }
