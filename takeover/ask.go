package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/stream"
)

// AnswerError is the error of an answer that cannot be handed over. It is for the log:
// the client gets status 502 and no reason.
type AnswerError struct{ Err error }

func (e *AnswerError) Error() string {
	return "the application's answer cannot become a stream: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *AnswerError) Unwrap() error { return e.Err }

// bodyTime is how long the body of an answer that is held back may take.
const bodyTime = 10 * time.Second

var (
	errEndless = fmt.Errorf("its body did not end within %s: end the answer at once, and publish what comes later", bodyTime)
	errCutOff  = errors.New("its body was cut off")
)

// Ask has next answer a request. An answer with status 200 and Evstream-Channels is held
// back: Ask returns it, nothing has been written to w, and w.Header has the answer's
// other headers, which go out with the stream. Every other answer goes to w as next
// writes it, and Ask returns nil. The error is that of next, or an *AnswerError: then
// nothing has been written, and w.Header is as it was.
//
// GET and POST can be handed over; HEAD is answered with the header of the stream. A
// client cannot forge an answer: next gets the request without the client's Evstream-
// headers, however they are spelled, and such headers that handlers in front have set in
// w do not count. The first events are asked for without compression.
func Ask(w http.ResponseWriter, r *http.Request, next Next) (*Answer, error) {
	asked, cancel := strip(r)
	defer cancel(nil)
	removeOurs(w.Header())
	h := &held{ResponseWriter: w, method: r.Method, before: w.Header().Clone()}
	h.slow = func() (stop func() bool) {
		return time.AfterFunc(bodyTime, func() { cancel(errEndless) }).Stop
	}
	err := h.ask(asked, next)
	if !h.holds() {
		return nil, err
	}
	if h.err == nil && context.Cause(asked.Context()) == errEndless { //nolint:errorlint // it is the cause itself
		h.err = errEndless
	}
	if err == nil && h.err == nil {
		h.err = h.answer.readEvents(h.body)
	}
	header := w.Header()
	clear(header)
	if h.err != nil {
		err = &AnswerError{h.err}
	}
	if err != nil {
		maps.Copy(header, h.before)
		return nil, err
	}
	maps.Copy(header, h.header) // without trailers, which come after the body
	return h.answer, nil
}

// strip returns the request as the application gets it. Its trailers are those of r.
func strip(r *http.Request) (*http.Request, context.CancelCauseFunc) {
	if r.Trailer == nil {
		r.Trailer = make(http.Header) // the server adds those that nobody has announced
	}
	removeOurs(r.Trailer)
	ctx, cancel := context.WithCancelCause(r.Context())
	asked := r.WithContext(ctx)
	asked.URL = new(*r.URL) // which what stands behind may rewrite
	asked.Header = r.Header.Clone()
	removeOurs(asked.Header)
	asked.Header.Set("Accept-Encoding", "identity")
	if r.Body != nil && r.Body != http.NoBody {
		asked.Body = &strippedBody{r.Body, r.Trailer}
	}
	return asked, cancel
}

// strippedBody is the body of a request, after which the client may send trailers.
type strippedBody struct {
	io.ReadCloser
	trailer http.Header
}

// Read implements io.Reader.
func (b *strippedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		removeOurs(b.trailer)
	}
	return n, err
}

// held is the ResponseWriter of Ask.
type held struct {
	http.ResponseWriter
	method  string
	before  http.Header // before the application was asked
	decided bool        // the final status is known
	answer  *Answer     // nil if the answer passes
	header  http.Header // of answer, without what describes its body
	body    []byte
	err     error // why the answer cannot be handed over

	slow func() (stop func() bool) // begins to wait for the body; stop must be called
	stop func() bool               // nil until then
}

// holds reports whether what is written must not reach the client.
func (h *held) holds() bool { return h.answer != nil || h.err != nil }

// ask has next answer. A proxy panics where the answer of its application is cut off.
func (h *held) ask(r *http.Request, next Next) error {
	defer func() {
		if h.stop != nil {
			h.stop()
		}
		p := recover()
		if p == nil {
			return
		}
		left := r.Context().Err() != nil && context.Cause(r.Context()) != errEndless //nolint:errorlint // it is the cause itself
		if p != http.ErrAbortHandler || !h.holds() || left {                         //nolint:errorlint // it is what was panicked with
			panic(p)
		}
		if h.err == nil && r.Context().Err() == nil {
			h.err = errCutOff
		}
	}()
	return next(h, r)
}

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		h.inform(status)
		return
	}
	if !h.decided {
		h.decided = true
		if header := h.Header(); status == http.StatusOK && len(header[headerChannels]) > 0 {
			h.hold(header)
		}
	}
	if !h.holds() {
		h.ResponseWriter.WriteHeader(status)
	}
}

// inform passes what comes before the answer: it decides nothing.
func (h *held) inform(status int) {
	if h.holds() {
		return
	}
	header := h.Header()
	all := maps.Clone(header)
	removeOurs(header)
	h.ResponseWriter.WriteHeader(status)
	maps.Copy(header, all)
}

// describing are headers that are about the body of an answer or the connection to the
// application, not about the stream.
var describing = []string{
	"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition", "Content-Digest", "Content-Md5",
	"Digest", "Repr-Digest", "Etag", "Last-Modified", "Accept-Ranges", "Age", "Expires",
	"Transfer-Encoding", "Trailer", "Connection", "Keep-Alive",
}

func (h *held) hold(header http.Header) {
	switch coding := header.Get("Content-Encoding"); {
	case h.method != http.MethodGet && h.method != http.MethodPost && h.method != http.MethodHead:
		h.err = fmt.Errorf("the request is %s, and only GET and POST can be handed over", h.method)
		return
	case coding != "" && !strings.EqualFold(coding, "identity"):
		h.err = fmt.Errorf("it is compressed with %q, though it was asked for without", coding)
		return
	}
	if h.answer, h.err = read(header); h.err != nil {
		h.answer = nil
		return
	}
	h.header = header.Clone()
	removeOurs(h.header)
	for _, name := range describing {
		h.header.Del(name)
	}
	maps.DeleteFunc(h.header, func(name string, _ []string) bool { return strings.HasPrefix(name, http.TrailerPrefix) })
	if h.method == http.MethodHead {
		h.answer = nil // it passes, with the header of the stream
		clear(header)
		maps.Copy(header, h.header)
		stream.SetHeader(header)
		return
	}
	h.stop = h.slow()
}

// Write implements io.Writer.
func (h *held) Write(p []byte) (int, error) {
	if !h.decided {
		h.WriteHeader(http.StatusOK)
	}
	if !h.holds() {
		return h.ResponseWriter.Write(p)
	}
	if h.err == nil && len(h.body)+len(p) > MaxBody {
		h.err = fmt.Errorf("its body has more than %d bytes: publish what comes later", MaxBody)
	}
	if h.err != nil {
		return 0, h.err // the application need not send the rest
	}
	h.body = append(h.body, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom, so that a file that passes is sent as before.
func (h *held) ReadFrom(r io.Reader) (int64, error) {
	if !h.decided {
		h.WriteHeader(http.StatusOK)
	}
	if !h.holds() {
		return io.Copy(h.ResponseWriter, r)
	}
	return io.Copy(struct{ io.Writer }{h}, r)
}

// FlushError is for http.ResponseController.
func (h *held) FlushError() error {
	if !h.decided {
		h.WriteHeader(http.StatusOK)
	}
	if h.holds() {
		return nil
	}
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (h *held) Flush() { _ = h.FlushError() }

// Unwrap is for http.ResponseController.
func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }
