package httpapi

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/problem"
)

// fail answers with the problem of err. Where Host.Fail answers instead, fail only
// sets the headers and returns the error of Host.Fail.
func (h *Handler) fail(w http.ResponseWriter, err error) error { return h.failThen(w, err, nil) }

// failThen is fail. answering, if it is not nil, is called before the answer is
// written, and flush after it. Neither is called where Host.Fail answers.
func (h *Handler) failThen(w http.ResponseWriter, err error, answering func() (flush func())) error {
	p := problem.Of(err)
	if p.Kind == problem.Internal {
		h.logger.Error("answering a request", "error", p.Cause)
	}
	header := w.Header()
	switch p.Status() {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", challenge(p))
	case http.StatusMethodNotAllowed:
		header.Set("Allow", p.Allow)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", strconv.Itoa(h.retryAfter()))
	}
	if a, ok := w.(*bodies.Arrival); ok {
		a.Refuse()
	}
	if handled, err := h.host.Fail(w, p); handled {
		return err
	}
	body, err := p.MarshalJSON()
	if err != nil {
		return err
	}
	header.Set("Content-Type", "application/problem+json")
	if a, ok := w.(*bodies.Arrival); ok {
		defer a.Drain()
	}
	if answering != nil {
		defer answering()()
	}
	writeBody(w, p.Status(), body)
	return nil
}

// challenge is the WWW-Authenticate header of a 401, by RFC 6750.
func challenge(p *problem.Error) string {
	if p.Credential {
		return `Bearer error="invalid_token"`
	}
	return "Bearer"
}

// retryAfter is how many seconds a client is told to wait: random, so that clients
// do not all come back at once, and at least one.
func (h *Handler) retryAfter() int {
	wait := h.stream.RetryMin
	if spread := h.stream.RetryMax - wait; spread > 0 {
		wait += rand.N(spread) //nolint:gosec // jitter, not a secret
	}
	return max(1, int((wait+time.Second-1)/time.Second))
}

// answer writes a document.
func (h *Handler) answer(w http.ResponseWriter, v any) error {
	body, err := jsonvalue.Marshal(v)
	if err != nil {
		return h.fail(w, err)
	}
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, body)
	return nil
}

// writeBody writes the status and the body of an answer whose Content-Type is set.
// Errors of writing are ignored: the client is gone.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if h.Get("ETag") != "" {
		h.Set("Cache-Control", "no-store, no-transform") // encode would change the tag
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // it is JSON, and nobody may sniff for HTML
}
