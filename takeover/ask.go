package takeover

import (
	"fmt"
	"maps"
	"net/http"

	"github.com/evstream/caddy-evstream/stream"
	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// AnswerError is the error of an answer that cannot be handed over. It is for the log:
// the client gets status 502 and no reason.
type AnswerError struct{ Err error }

func (e *AnswerError) Error() string {
	return "the application's answer cannot become a stream: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *AnswerError) Unwrap() error { return e.Err }

var errTooLong = fmt.Errorf("its body has more than %d bytes: publish what comes later", MaxBody)

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
	h := handing{method: r.Method}
	held, err := answers.Ask(w, r, &answers.Dialect{Fields: fields, Decide: h.decide, MaxBody: MaxBody, TooLong: errTooLong}, next)
	if held == nil {
		return nil, err
	}
	if held.Err == nil {
		held.Err = h.answer.readEvents(held.Body)
	}
	if held.Err != nil {
		return nil, &AnswerError{held.Err}
	}
	header := w.Header()
	clear(header)
	answers.RemoveDescribing(held.Header)
	maps.Copy(header, held.Header)
	return h.answer, nil
}

// handing reads one answer.
type handing struct {
	method string
	answer *Answer // that is handed over; else nil
}

// decide is the Decide of an answers.Dialect.
func (h *handing) decide(status int, header http.Header) (passes int, holds bool, err error) {
	if status != http.StatusOK || len(header[headerChannels]) == 0 {
		return status, false, nil
	}
	switch {
	case h.method != http.MethodGet && h.method != http.MethodPost && h.method != http.MethodHead:
		return status, false, fmt.Errorf("the request is %s, and only GET and POST can be handed over", h.method)
	case !answers.IsIdentity(header):
		return status, false, fmt.Errorf("it is compressed with %q, though it was asked for without", header.Get("Content-Encoding"))
	}
	answer, err := read(header)
	if err != nil {
		return status, false, err
	}
	if h.method == http.MethodHead { // it passes, with the header of the stream
		fields.Remove(header)
		answers.RemoveDescribing(header)
		answers.RemoveTrailers(header)
		stream.SetHeader(header)
		return status, false, nil
	}
	h.answer = answer
	return status, true, nil
}
