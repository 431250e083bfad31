package stream

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// response writes a stream to the ResponseWriter of its request: all of an
// attached stream, the opening of a detached one. One goroutine at a time may
// use it; aborted and setWriteDeadline are safe for concurrent use.
type response struct {
	w                http.ResponseWriter
	started          bool        // the header was written
	noBackgroundRead bool        // the HTTP server is not to wait for the client to leave
	aborted          atomic.Bool // the current write is to fail, or has failed
}

func newResponse(w http.ResponseWriter) *response {
	return &response{w: w}
}

// SetHeader sets the header fields of an event stream: its type, and that nobody
// between the server and the client may store, change or buffer it.
func SetHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Incremental", "?1") // RFC 10036
	h.Del("Content-Length")
}

// writeHeader writes the header. It removes the deadlines of the request, which
// must not end the stream, and makes until the write deadline, if it is not zero.
func (r *response) writeHeader(until time.Time) {
	SetHeader(r.w.Header())
	control := http.NewResponseController(r.w)
	_ = control.SetReadDeadline(time.Time{}) // not every server has one
	_ = control.SetWriteDeadline(until)
	r.w.WriteHeader(http.StatusOK)
}

// stopBackgroundRead ends the goroutine with which the HTTP server waits for the
// client to leave: its read fails at once.
func (r *response) stopBackgroundRead() {
	if w, ok := innermost(r.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Unix(1, 0))
	}
}

// write writes frames and events and flushes them together. The first call writes
// the header before them; see writeHeader for until. It returns why the stream
// ends, or "" if all was written.
func (r *response) write(frames, events []byte, until time.Time) Reason {
	first := !r.started
	if first {
		r.started = true
		r.writeHeader(until)
		if r.noBackgroundRead {
			r.stopBackgroundRead()
		}
	}
	err := r.writeAll(frames, events)
	switch {
	case err == nil:
		return ""
	case r.aborted.Load() || errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonSlow
	case first:
		return ReasonError
	}
	return ReasonClient
}

// writeAll writes frames and events and flushes them.
func (r *response) writeAll(frames, events []byte) error {
	if len(frames) > 0 {
		if _, err := r.w.Write(frames); err != nil {
			return err
		}
	}
	if len(events) > 0 {
		if _, err := r.w.Write(events); err != nil {
			return err
		}
	}
	return http.NewResponseController(r.w).Flush()
}

// setWriteDeadline sets the write deadline. It goes to the HTTP server's own
// writer, because the writers that wrap it are not safe for concurrent use.
func (r *response) setWriteDeadline(t time.Time) {
	if w, ok := innermost(r.w).(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(t)
	}
}

// Interrupt has a write to w that is stalled fail, and later ones. It is safe for concurrent
// use with that, which a deadline of http.ResponseController is not where other writers wrap
// the server's own.
func Interrupt(w http.ResponseWriter) {
	r := response{w: w}
	r.setWriteDeadline(time.Unix(1, 0))
}

// innermost returns the HTTP server's own writer, which others may wrap.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// Refuse answers a subscriber that cannot be served now with a stream that says the
// reason in a comment, ends at once and tells the client to reconnect after a random time between
// retryMin and retryMax. An EventSource reconnects after no other answer: after
// an error status it gives up.
func Refuse(w http.ResponseWriter, reason string, retryMin, retryMax time.Duration) {
	SetHeader(w.Header())
	retry := jitter(retryMin, retryMax)
	w.Header().Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(appendRetry(sse.AppendComment(nil, "evstream: "+reason+"; come back later"), retry.Milliseconds()))
}
