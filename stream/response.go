package stream

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// conn is the one place that writes to the client of an attached stream.
type response struct {
	w                http.ResponseWriter
	started          bool        // something was written
	noBackgroundRead bool        // the server does not wait for the client to leave
	aborted          atomic.Bool // what is being written is to fail, or has
}

func newResponse(w http.ResponseWriter) *response {
	return &response{w: w}
}

// SetHeader sets the header fields that every event stream carries: nobody
// between the hub and the client may keep, change or hold back any of it.
func SetHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Del("Content-Length")
}

// begin writes the header. No deadline of the request may end the stream.
func (r *response) writeHeader(until time.Time) {
	SetHeader(r.w.Header())
	control := http.NewResponseController(r.w)
	_ = control.SetReadDeadline(time.Time{}) // not every server has one
	_ = control.SetWriteDeadline(until)
	r.w.WriteHeader(http.StatusOK)
}

// unwatch ends the server's waiting for the client to leave: it reads, and what
// it reads is not looked at before the stream has ended.
func (r *response) stopBackgroundRead() {
	if w, ok := innermost(r.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Unix(1, 0))
	}
}

// write writes frames and events and flushes them together; before the first of
// them, the header, which puts until in place of the deadlines of the request.
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

// limit sets the write deadline, of the server's own writer: those that wrap it
// are not safe for concurrent use.
func (r *response) setWriteDeadline(t time.Time) {
	if w, ok := innermost(r.w).(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(t)
	}
}

// innermost is the server's own writer, beneath those that wrap it.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// Refuse answers a subscriber that there is no room for, in the one way that
// an EventSource survives: a stream that says when to come back, and ends.
func Refuse(w http.ResponseWriter, retryMin, retryMax time.Duration) {
	SetHeader(w.Header())
	retry := jitter(retryMin, retryMax)
	w.Header().Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(appendRetry([]byte(": evstream: no room now, come back later\n\n"), retry.Milliseconds()))
}
