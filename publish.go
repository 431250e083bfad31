package evstream

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// Bounds of what is no data. An id that is longer could not be sent back.
const (
	maxFieldLen  = maxLastEventID
	maxExceptLen = 255
)

// wholeBody is how much memory a Content-Length is trusted for.
const wholeBody = 64 << 10

// bodyKind is how a body is read.
type bodyKind uint8

const (
	bodyRaw    bodyKind = iota // whatever it is: one event's data
	bodyLines                  // application/x-ndjson
	bodyEvents                 // text/event-stream
)

// writer decides whether a request that writes may be read at all: it is not
// a foreign page's, it says who it is from, and its body is not compressed.
func (e *endpoint) writer(r *http.Request) (caller, error) {
	if err := e.cors.check(r); err != nil {
		return caller{}, err
	}
	who, err := e.access.caller(r)
	if err == nil {
		err = e.cors.checkWrite(r, who)
	}
	if err != nil {
		return caller{}, err
	}
	for _, coding := range r.Header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return caller{}, badMedia.because("Content-Encoding %q is not served; send the body as it is", clip(coding))
		}
	}
	return e.cors.vouch(r, who), nil
}

// publisher decides whether a request may publish to name, and who does.
func (e *endpoint) publisher(r *http.Request, name string) (author, error) {
	who, err := e.writer(r)
	if err == nil {
		err = e.access.require(who, doPublish, name)
	}
	if err != nil {
		return author{}, err
	}
	return e.author(r, who)
}

// publish publishes the body to a channel, or to what lies beneath a name.
func (e *endpoint) publish(w http.ResponseWriter, r *http.Request, name string, q query) error {
	by, err := e.publisher(r, name)
	if err != nil {
		return e.fail(w, err)
	}
	op, err := opOf(name, q)
	if err != nil {
		return e.fail(w, err)
	}
	if kind := bodyKindOf(r); kind != bodyRaw {
		return e.publishFlowing(w, r, op, by, kind)
	}
	if op.Event.Data, err = readBody(r, e.maxBody); err != nil {
		return e.fail(w, err)
	}
	op.Key = by.key
	return e.publishOne(w, r, by, op)
}

// publishOne appends one operation and answers with its id.
func (e *endpoint) publishOne(w http.ResponseWriter, r *http.Request, by author, op broker.Op) error {
	results, err := e.append(r.Context(), by, []broker.Op{op})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return e.fail(w, err)
	}
	if results[0].Repeated {
		markReplayed(w)
	}
	body := append(make([]byte, 0, 64), `{"id":"`...)
	body = results[0].ID.AppendTo(body)
	body = append(body, `"}`...)
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, body)
	return nil
}

// purge removes what a channel keeps. Who may publish may purge.
func (e *endpoint) purge(w http.ResponseWriter, r *http.Request, name string) error {
	by, err := e.publisher(r, name)
	if err != nil {
		return e.fail(w, err)
	}
	return e.publishOne(w, r, by, broker.Op{Kind: broker.KindPurge, Channel: name, Key: by.key})
}

// markReplayed says that the answer is that of an earlier request.
func markReplayed(w http.ResponseWriter) { w.Header().Set("Idempotency-Replayed", "true") }

// opOf reads what the query says of an event.
func opOf(name string, q query) (broker.Op, error) {
	op := broker.Op{Kind: broker.KindEvent, Channel: name}
	if q == "" {
		return op, nil
	}
	var err error
	if op.Event.Type, _, err = q.one("event"); err != nil {
		return op, err
	}
	if op.Event.ID, _, err = q.one("id"); err != nil {
		return op, err
	}
	if op.Except, _, err = q.one("except"); err != nil {
		return op, err
	}
	retry, given, err := q.one("retry")
	if err != nil {
		return op, err
	}
	if given {
		if op.Event.Retry, err = parseRetry(retry); err != nil {
			return op, err
		}
	}
	return op, checkFields(&op)
}

// parseRetry reads a number of milliseconds: digits, and nothing else.
func parseRetry(s string) (int64, error) {
	ms, err := strconv.ParseUint(s, 10, 32)
	if err != nil || ms < 1 || ms > sse.MaxRetry {
		return 0, badEvent.because("%w, not %q", sse.ErrRetry, clip(s))
	}
	return int64(ms), nil
}

// checkFields bounds what the broker does not: the fields beside the data.
func checkFields(op *broker.Op) error {
	switch {
	case len(op.Event.Type) > maxFieldLen:
		return badEvent.because("the event's type has %d bytes, at most %d are allowed", len(op.Event.Type), maxFieldLen)
	case len(op.Event.ID) > maxFieldLen:
		return badEvent.because("the event's id has %d bytes, at most %d are allowed", len(op.Event.ID), maxFieldLen)
	case len(op.Except) > maxExceptLen:
		return badEvent.because("except names one session, in at most %d bytes", maxExceptLen)
	}
	return nil
}

// keyOf reads the idempotency key. The same key of another caller is another.
func keyOf(r *http.Request, who caller) (broker.Key, error) {
	values := r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return broker.Key{}, nil
	}
	key := values[0]
	visible := strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
	if len(values) > 1 || key == "" || len(key) > broker.MaxKeyLen || !visible {
		return broker.Key{}, badKey.because("Idempotency-Key is one value of 1 to %d visible ASCII characters", broker.MaxKeyLen)
	}
	return broker.Key{Identity: who.identity(), Key: key}, nil
}

// bodyKindOf reads the Content-Type. What is no stream of events is data, also
// the type that curl -d gives whatever it sends.
func bodyKindOf(r *http.Request) bodyKind {
	values := r.Header["Content-Type"]
	if len(values) == 0 {
		return bodyRaw
	}
	media, _, _ := strings.Cut(values[0], ";")
	switch media = strings.TrimSpace(media); {
	case strings.EqualFold(media, "application/x-ndjson"):
		return bodyLines
	case strings.EqualFold(media, "text/event-stream"):
		return bodyEvents
	}
	return bodyRaw
}

// readBody reads a body of at most limit bytes.
func readBody(r *http.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(limit) {
		return nil, bodyTooLarge(limit)
	}
	if n := r.ContentLength; n > 0 && n <= wholeBody {
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, bodyProblem(err, limit)
		}
		return body, nil
	}
	// Longer than is trusted, or of a length that is not told: memory is
	// taken as the bytes arrive.
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)))
	if err != nil {
		return nil, bodyProblem(err, limit)
	}
	if len(body) == limit {
		// The bound is no end: the body may go on, or break off here.
		switch n, err := io.ReadFull(r.Body, make([]byte, 1)); {
		case n > 0:
			return nil, bodyTooLarge(limit)
		case !errors.Is(err, io.EOF):
			return nil, bodyProblem(err, limit)
		}
	}
	return body, nil
}

func bodyTooLarge(limit int) *problem {
	return tooLarge.because("the body has more than %d bytes, which is what is allowed", limit)
}

// bodyProblem tells what kept a body from being read.
func bodyProblem(err error, limit int) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bodyTooLarge(int(over.Limit))
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode == http.StatusRequestEntityTooLarge {
		return tooLarge.because("the body is larger than this site allows")
	}
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return tooLarge.because("an event has more than %d bytes, which is what is allowed", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return timedOut.because("the body did not arrive in time")
	}
	return badBody.because("the body ended before it was whole")
}
