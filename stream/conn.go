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
type conn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	begun   bool // something was written
	alone   bool // the server does not wait for the client to leave

	// On HTTP/1 a deadline that passes while nothing is written does no harm:
	// it is moved now and then, not for every write. On an idle HTTP/2 stream
	// it would fire, and it is cleared after every write.
	lasting  bool
	bounded  bool // whoever is beneath sets deadlines
	deadline time.Time
	aborted  atomic.Bool // the deadline was changed by somebody else
}

func newConn(w http.ResponseWriter, r *http.Request, timeout time.Duration) *conn {
	c := new(conn)
	c.set(w, r, timeout)
	return c
}

// set makes c what newConn returns.
func (c *conn) set(w http.ResponseWriter, r *http.Request, timeout time.Duration) {
	c.w, c.control, c.timeout, c.lasting = w, http.NewResponseController(w), timeout, r.ProtoMajor == 1
}

// SetHeader sets the header fields that every event stream carries: nobody
// between the hub and the client may keep, change or hold back any of it.
func SetHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Del("Content-Length")
}

// begin writes the header. A deadline for reading the request must not end
// the stream.
func (c *conn) begin() {
	SetHeader(c.w.Header())
	_ = c.control.SetReadDeadline(time.Time{}) // not every server has one
	c.w.WriteHeader(http.StatusOK)
}

// unwatch ends the server's waiting for the client to leave: it reads, and what
// it reads is not looked at before the stream has ended.
func (c *conn) unwatch() {
	if w, ok := innermost(c.w).(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(time.Unix(1, 0))
	}
}

// write writes frames and events and flushes them together; before the first of
// them, the header.
func (c *conn) write(frames, events []byte) Reason {
	first := !c.begun
	if first {
		c.begun = true
		c.begin()
		if c.alone {
			c.unwatch()
		}
	}
	c.hurry()
	err := c.writeAll(frames, events)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonSlow
	case err != nil && first:
		return ReasonError
	case err != nil:
		return ReasonClient
	}
	if !c.lasting {
		c.relax()
	}
	return ""
}

// hurry sees to it that the next write fails when it takes longer than the
// timeout, by up to an eighth of it.
func (c *conn) hurry() {
	if c.bounded {
		return
	}
	now := time.Now()
	if c.aborted.Swap(false) || c.deadline.Sub(now) < c.timeout {
		c.deadline = now.Add(c.timeout + c.timeout/8)
		_ = c.control.SetWriteDeadline(c.deadline) // not every server has one
	}
}

// relax lets what is written next take its time.
func (c *conn) relax() {
	if c.bounded {
		return
	}
	c.deadline = time.Time{}
	_ = c.control.SetWriteDeadline(time.Time{})
}

func (c *conn) writeAll(frames, events []byte) error {
	if len(frames) > 0 {
		if _, err := c.w.Write(frames); err != nil {
			return err
		}
	}
	if len(events) > 0 {
		if _, err := c.w.Write(events); err != nil {
			return err
		}
	}
	return c.control.Flush()
}

// abort fails what is being written. Wrappers are not safe for concurrent use;
// the server's own writer, beneath them, is.
func (c *conn) abort() {
	if w, ok := innermost(c.w).(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(time.Now()) // without one, the write times out by itself
		c.aborted.Store(true)
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
