package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// connection is one response.
type connection struct {
	body    *idleBody
	decoder *sse.Decoder
	cancel  context.CancelCauseFunc
	ctx     context.Context // that of the request
	used    *heldCredential
}

// errEnded is the error of a stream that is not to be had any more: 204.
var errEnded = errors.New("the stream has ended")

// connect waits as long as it has to, and begins a stream.
func (s *Subscription) connect() error {
	if s.waiting {
		s.waiting = false
		if err := sleep(s.ctx, s.wait); err != nil {
			return err
		}
	}
	s.forget()
	ctx, cancel := context.WithCancelCause(s.ctx)
	idle := newIdleTimer(s.opts.Idle, cancel)
	resp, used, err := s.request(ctx, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusUnauthorized && used != nil {
		resp, used, err = s.request(ctx, used)
	}
	if err == nil && resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		err = errEnded
	}
	if err != nil {
		idle.stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return err
	}
	body := &idleBody{resp.Body, idle}
	s.conn = &connection{body, sse.NewDecoder(body, s.opts.MaxEvent), cancel, ctx, used}
	return nil
}

// request asks for a stream, with a newer credential than refused.
func (s *Subscription) request(ctx context.Context, refused *heldCredential) (*http.Response, *heldCredential, error) {
	c := s.client
	credential, err := c.creds.get(ctx, refused)
	if err != nil {
		return nil, nil, err
	}
	query := s.query()
	if credential != nil && credential.Ticket != "" {
		query.Set("ticket", credential.Ticket)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("", query).String(), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	if s.cursor != "" {
		r.Header.Set("Last-Event-ID", s.cursor)
	}
	if credential != nil && credential.Token != "" {
		r.Header.Set("Authorization", "Bearer "+credential.Token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, credential, plainly(err, r.URL)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusNoContent:
	case resp.StatusCode != http.StatusOK:
		err = errorOf(resp)
	case media != "text/event-stream":
		head, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
		err = notHub(resp, media, head)
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, credential, err
	}
	return resp, credential, nil
}

// query is what a stream is asked for with. Where it began decides until there is a
// cursor.
func (s *Subscription) query() url.Values {
	q := url.Values{"channel": s.opts.Channels, "envelope": {"1"}}
	if len(s.opts.Types) > 0 {
		q["event"] = s.opts.Types
	}
	if s.opts.Presence {
		q.Set("presence", "1")
	}
	if s.cursor == "" && s.opts.Since != "" {
		q.Set("since", s.opts.Since)
	}
	if s.cursor == "" && s.opts.Last > 0 {
		q.Set("last", strconv.Itoa(s.opts.Last))
	}
	return q
}

// idleTimer cancels a connection on which nothing comes.
type idleTimer struct {
	d     time.Duration
	timer *time.Timer // nil for none
}

func newIdleTimer(d time.Duration, cancel context.CancelCauseFunc) *idleTimer {
	if d < 0 {
		return &idleTimer{}
	}
	return &idleTimer{d, time.AfterFunc(d, func() { cancel(&idleError{d}) })}
}

func (t *idleTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// idleError is the error of a connection that was taken for dead.
type idleError struct{ d time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("nothing has come for %s, not even a heartbeat", e.d)
}

// Timeout makes it a net.Error.
func (*idleError) Timeout() bool   { return true }
func (*idleError) Temporary() bool { return true }

// idleBody is a body whose bytes are signs of life. While nobody reads, the timer does
// not run.
type idleBody struct {
	io.ReadCloser
	idle *idleTimer
}

func (b *idleBody) Read(p []byte) (int, error) {
	if b.idle.timer != nil {
		b.idle.timer.Reset(b.idle.d)
		defer b.idle.timer.Stop()
	}
	return b.ReadCloser.Read(p)
}

func (b *idleBody) Close() error {
	b.idle.stop()
	return b.ReadCloser.Close()
}

// disconnect closes the connection, if there is one.
func (s *Subscription) disconnect() {
	if s.conn != nil {
		s.conn.cancel(nil)
		_ = s.conn.body.Close()
		s.conn = nil
	}
}

// cut is the error of a connection that has ended.
func (s *Subscription) cut(err error) error {
	cause := context.Cause(s.conn.ctx)
	if ms := s.conn.decoder.Retry(); ms >= 0 {
		s.retry = time.Duration(ms) * time.Millisecond
	}
	s.disconnect()
	if cause != nil {
		return cause
	}
	if errors.Is(err, sse.ErrTooLong) {
		return &ProtocolError{fmt.Sprintf("an event of more than %d bytes, which is MaxEvent", s.opts.MaxEvent)}
	}
	return err
}
