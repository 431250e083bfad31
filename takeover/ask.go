package takeover

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
)

// AnswerError is the error of an answer that cannot be handed over. It is for the log:
// the client gets status 502 and no reason.
type AnswerError struct{ Err error }

func (e *AnswerError) Error() string {
	return "the application's answer cannot become a stream: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *AnswerError) Unwrap() error { return e.Err }

// Ask has next answer a request. An answer with status 200 and Evstream-Channels is held
// back: Ask returns it, nothing has been written to w, and w.Header has the answer's
// other headers, which go out with the stream. Every other answer goes to w as next
// writes it, and Ask returns nil. The error is that of next, or an *AnswerError: then
// nothing has been written, and w.Header is as it was.
//
// Only GET and POST can be handed over. A client cannot forge an answer: next gets the
// request without the client's Evstream- headers, and such headers that handlers in front
// have set in w do not count. The first events are asked for without compression.
func Ask(w http.ResponseWriter, r *http.Request, next Next) (*Answer, error) {
	r = r.Clone(r.Context())
	removeOurs(r.Header)
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, next(w, r)
	}
	r.Header.Set("Accept-Encoding", "identity")
	removeOurs(w.Header())
	h := &held{ResponseWriter: w, before: w.Header().Clone()}
	err := next(h, r)
	if h.answer == nil && h.err == nil {
		return nil, err
	}
	if err == nil && h.err == nil {
		h.err = h.answer.readEvents(h.body)
	}
	header := w.Header()
	clear(header)
	if err != nil || h.err != nil {
		maps.Copy(header, h.before)
		if err == nil {
			err = &AnswerError{h.err}
		}
		return nil, err
	}
	maps.Copy(header, h.header) // without trailers, which come after the body
	return h.answer, nil
}

// held is the ResponseWriter of Ask.
type held struct {
	http.ResponseWriter
	before  http.Header // before the application was asked
	decided bool        // the final status is known
	answer  *Answer     // nil if the answer passes
	header  http.Header // of answer, without what describes its body
	body    []byte
	err     error // why the answer cannot be handed over
}

// holds reports whether what is written must not reach the client.
func (h *held) holds() bool { return h.answer != nil || h.err != nil }

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(status int) {
	informs := status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
	if !informs && !h.decided {
		h.decided = true
		if header := h.Header(); status == http.StatusOK && len(header[headerChannels]) > 0 {
			h.hold(header)
		}
	}
	if !h.holds() {
		h.ResponseWriter.WriteHeader(status)
	}
}

func (h *held) hold(header http.Header) {
	if coding := header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		h.err = fmt.Errorf("it is compressed with %q, though it was asked for without", coding)
		return
	}
	if h.answer, h.err = read(header); h.err != nil {
		h.answer = nil
		return
	}
	h.header = header.Clone()
	removeOurs(h.header)
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer", "Connection", "Keep-Alive", "Etag", "Last-Modified", "Accept-Ranges", "Expires"} {
		h.header.Del(name)
	}
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
