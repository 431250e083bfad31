package grip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/takeover"
)

// maxAnswer bounds what an application answers to one request and what is held or read
// here: it waits in memory until it is known to be whole.
const maxAnswer = 1 << 20

// answerWriter takes the answer of an application. An answer without instructions goes
// through to the client as it is written; of one with instructions nothing does.
type answerWriter struct {
	http.ResponseWriter
	method   string
	before   http.Header // before the application was asked
	buffers  bool        // the method of the request can have a stream
	decided  bool        // the final status is known
	instruct *Instruct   // nil if the answer goes through
	status   int         // of the answer, or of its instructions
	header   http.Header // of an answer that does not go through, without instructions
	body     []byte
	err      error // why the instructions cannot be followed

	slow func() (stop func() bool) // begins to wait for the body; stop must be called
	stop func() bool               // nil until then
}

// bodyTime is how long the body of an answer that stays may take.
const bodyTime = 10 * time.Second

var (
	errEndless = fmt.Errorf("its body did not end within %s: end the answer at once, and publish what comes later", bodyTime)
	errCutOff  = errors.New("its body was cut off")
)

// ask has next answer. A proxy panics where the answer of its application is cut off.
func (a *answerWriter) ask(r *http.Request, next takeover.Next) error {
	defer func() {
		if a.stop != nil {
			a.stop()
		}
		endless := errors.Is(context.Cause(r.Context()), errEndless)
		if a.stays() && a.err == nil && endless {
			a.err = errEndless
		}
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler || !a.stays() || r.Context().Err() != nil && !endless { //nolint:errorlint // it is the value itself
			panic(p)
		}
		if a.err == nil {
			a.err = errCutOff
		}
	}()
	return next(a, r)
}

// stays reports whether what is written must not reach the client.
func (a *answerWriter) stays() bool { return a.instruct != nil || a.err != nil }

// WriteHeader implements http.ResponseWriter.
func (a *answerWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		if !a.stays() {
			header := a.Header()
			all := maps.Clone(header)
			removeOurs(header)
			a.ResponseWriter.WriteHeader(status)
			maps.Copy(header, all)
		}
		return
	}
	if !a.decided {
		a.decided = true
		status = a.decide(status)
	}
	if !a.stays() {
		a.ResponseWriter.WriteHeader(status)
	}
}

// decide reads the header of the answer, and returns the status that the client gets if
// the answer goes through.
func (a *answerWriter) decide(status int) int {
	h := a.Header()
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media == "application/grip-instruct" {
		a.err = fmt.Errorf("its Content-Type is %s, which is not done here: the instructions must be headers", media)
		return status
	}
	if !hasInstructions(h) {
		return status
	}
	i, err := ReadInstruct(h)
	if err != nil {
		a.err = err
		return status
	}
	if i.Status != 0 {
		status = i.Status
	}
	a.status = status
	switch {
	case i.Hold && a.method == http.MethodHead && status == http.StatusOK: // it goes through, with the header of the stream
	case i.Hold && !a.buffers:
		a.err = fmt.Errorf("%s answers a request that is neither GET nor POST", headerHold)
	case i.Hold && status != http.StatusOK:
		a.err = fmt.Errorf("%s has the status %d: a stream is 200", headerHold, status)
	case i.Hold && media != "text/event-stream":
		a.err = fmt.Errorf("%s has the Content-Type %q, and what is held must be text/event-stream", headerHold, clip(h.Get("Content-Type")))
	case (i.Hold || i.Next != "") && !isIdentity(h):
		a.err = fmt.Errorf("it is compressed with %q, though it was asked for without", clip(h.Get("Content-Encoding")))
	}
	if a.err != nil {
		return status
	}
	header := h.Clone()
	removeOurs(header)
	if i.Expose != nil {
		for name := range header {
			if !slices.Contains(i.Expose, name) && !describesBody(name) {
				delete(header, name)
			}
		}
	}
	if a.buffers && (i.Hold || i.Next != "") {
		maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.HasPrefix(name, http.TrailerPrefix) })
		a.instruct, a.header = i, header
		a.stop = a.slow()
		return status
	}
	clear(h)
	maps.Copy(h, header)
	return status
}

func isIdentity(h http.Header) bool {
	coding := h.Get("Content-Encoding")
	return coding == "" || strings.EqualFold(coding, "identity")
}

// describesBody reports whether a client cannot read an answer without a header.
func describesBody(name string) bool {
	switch name {
	case "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding":
		return true
	}
	return false
}

// Write implements io.Writer.
func (a *answerWriter) Write(p []byte) (int, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if !a.stays() {
		return a.ResponseWriter.Write(p)
	}
	if a.err == nil && len(a.body)+len(p) > maxAnswer {
		a.err = fmt.Errorf("its body has more than %d bytes: let %s lead to the rest", maxAnswer, headerLink)
	}
	if a.err != nil {
		return 0, a.err // the application need not send the rest
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom, so that a file that goes through is sent as before.
func (a *answerWriter) ReadFrom(r io.Reader) (int64, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if !a.stays() {
		return io.Copy(a.ResponseWriter, r)
	}
	return io.Copy(struct{ io.Writer }{a}, r)
}

// FlushError is for http.ResponseController.
func (a *answerWriter) FlushError() error {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if a.stays() {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (a *answerWriter) Flush() { _ = a.FlushError() }

// Unwrap is for http.ResponseController.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

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
			err = errCutOff
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
