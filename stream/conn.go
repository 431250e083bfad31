package stream

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// conn is the one place that writes to a client.
type conn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	wrote   time.Time // when the last write ended
	sent    broker.ID // the newest position that the client was told
}

func newConn(w http.ResponseWriter, timeout time.Duration) *conn {
	return &conn{w: w, control: http.NewResponseController(w), timeout: timeout}
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

// write writes parts and flushes them together. The deadline is cleared
// afterwards: on an idle HTTP/2 stream it would fire with nothing to write.
func (c *conn) write(parts ...[]byte) Reason {
	first := c.wrote.IsZero()
	deadline := c.control.SetWriteDeadline(time.Now().Add(c.timeout)) == nil
	err := c.writeAll(parts)
	c.wrote = time.Now()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonSlow
	case err != nil && first:
		return ReasonError
	case err != nil:
		return ReasonClient
	}
	if deadline {
		_ = c.control.SetWriteDeadline(time.Time{})
	}
	return ""
}

func (c *conn) writeAll(parts [][]byte) error {
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		if _, err := c.w.Write(part); err != nil {
			return err
		}
	}
	return c.control.Flush()
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
