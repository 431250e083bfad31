package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// SubscribeOptions say what is read, from where on, and what is told.
type SubscribeOptions struct {
	// Channels are the names and patterns of up to 100 channels.
	Channels []string
	// Types are the names of the events to get; "message" is that of events without one,
	// and a value's is that of its channel. Default: all.
	Types []string

	// Where it begins; at most one of them is given. Default: now.
	LastEventID string // after the event of that id
	Since       string // "earliest", a duration before now such as "30s", or a time of RFC 3339
	Last        int    // with the newest so many events of each channel

	// Presence has changes of who is in the channels told, as KindPresence.
	Presence bool
	// Notices has notices told: see EventKind.
	Notices bool

	// MustConnect makes a first connection that fails an error. By default it is tried
	// until it succeeds, unless the hub refuses it for good.
	MustConnect bool
	// GiveUp is how long it is tried to come back, before the last failure is the error.
	// Default: without end.
	GiveUp time.Duration

	// Idle is how long nothing may come, not even a heartbeat, before a connection is
	// taken for dead. It must be longer than the heartbeat of the hub, which is 15s
	// unless it is configured. Default: 1m; negative: for ever.
	Idle time.Duration
	// MaxEvent bounds one event, in bytes. Default: 4 MiB. MaxValues bounds the values
	// that are held where the hub sends patches, in bytes. Default: 64 MiB.
	MaxEvent, MaxValues int
}

// ErrClosed is the error of a Subscription that was closed.
var ErrClosed = errors.New("the subscription is closed")

// Subscription reads channels. It comes back when a connection is lost, and goes on
// after the last event that Next has returned.
//
// It is for one goroutine; only Close may be called from others. It has no goroutine of
// its own, and no queue: while Next is not called, the hub's events wait on the
// connection, and then in the history of the hub.
type Subscription struct {
	client *Client
	opts   SubscribeOptions
	ctx    context.Context // bounds the Subscription, as that of a Request does
	stop   context.CancelCauseFunc

	conn *connection // nil between connections
	err  error       // is the end

	cursor   string
	session  string
	reason   string
	retry    time.Duration // that the hub has asked for
	failures int           // connections in a row on which nothing came
	began    bool          // a stream has opened, once
	since    time.Time     // of the failures
	wait     time.Duration // before the next connection
	waiting  bool
	renewed  *heldCredential

	patched bool // the hub sends patches: the values that they apply to are held
	values  map[string][]byte
	held    int    // bytes of values
	doubted string // the id of a patch that did not apply, and for which the stream was begun again
}

// connection is one response.
type connection struct {
	body    *idleBody
	decoder *sse.Decoder
	cancel  context.CancelCauseFunc
	ctx     context.Context // that of the request
	used    *heldCredential
}

// Subscribe begins a subscription, which ends with ctx at the latest. Nothing is sent
// before Next.
func (c *Client) Subscribe(ctx context.Context, o SubscribeOptions) *Subscription {
	o.Channels, o.Types = slices.Clone(o.Channels), slices.Clone(o.Types)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.MaxEvent = cmp.Or(o.MaxEvent, 4<<20)
	o.MaxValues = cmp.Or(o.MaxValues, 64<<20)
	s := &Subscription{client: c, opts: o, cursor: o.LastEventID}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	s.err = o.check()
	return s
}

// check reports what cannot be asked for.
func (o *SubscribeOptions) check() error {
	starts := 0
	for _, given := range []bool{o.LastEventID != "", o.Since != "", o.Last != 0} {
		if given {
			starts++
		}
	}
	switch {
	case len(o.Channels) == 0:
		return errors.New("no channel is named to subscribe to")
	case slices.Contains(o.Channels, ""):
		return errors.New("the name of a channel to subscribe to is empty")
	case starts > 1:
		return errors.New("at most one of LastEventID, Since and Last says where a subscription begins")
	case o.Last < 0 || o.GiveUp < 0 || o.MaxEvent < 0 || o.MaxValues < 0:
		return errors.New("Last, GiveUp, MaxEvent and MaxValues are not negative")
	}
	return nil
}

// Close ends the subscription. It may be called by any goroutine, and more than once. A
// Next that waits returns ErrClosed.
func (s *Subscription) Close() { s.stop(ErrClosed) }

// LastEventID returns the id to come back with, after what Next has returned: that of
// SubscribeOptions for a later Subscription. It is empty before the first connection.
func (s *Subscription) LastEventID() string { return s.cursor }

// Session returns the id of the session, which is another one after each reconnect.
func (s *Subscription) Session() string { return s.session }

// EndReason says why the hub has ended the subscription, if it says so.
func (s *Subscription) EndReason() string { return s.reason }

// All yields what Next returns, until the end. A [GapError] is yielded, and the loop may
// go on. At io.EOF it ends without an error; any other error is the last that it yields.
// When the loop ends, the subscription is closed.
func (s *Subscription) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer s.Close()
		defer s.disconnect()
		for {
			e, err := s.Next()
			if err == io.EOF { //nolint:errorlint // it is itself, as of a Reader
				return
			}
			if !yield(e, err) || s.err != nil {
				return
			}
		}
	}
}

// Next waits for the next event. The error is
//
//   - a [GapError] where events were lost. It is not the end.
//   - io.EOF where the hub has ended the stream on purpose, such as because all its
//     channels are closed.
//   - an [Error] where the hub refuses the subscription for good, ErrClosed after Close,
//     and otherwise why ctx has ended, or what cannot be mended by coming back.
//
// After such an error it is returned again.
func (s *Subscription) Next() (Event, error) {
	for s.err == nil {
		if s.conn == nil {
			err := s.connect()
			if err == nil {
				continue
			}
			if notice, ok := s.lost(err); ok {
				return notice, nil
			}
			continue
		}
		raw, err := s.conn.decoder.Next()
		if err != nil {
			if notice, ok := s.lost(s.cut(err)); ok {
				return notice, nil
			}
			continue
		}
		f, err := parseFrame(&raw)
		if err == nil {
			err = s.take(&f)
		}
		if err != nil {
			s.finish(err)
			continue
		}
		switch {
		case f.gap != nil:
			return Event{}, f.gap
		case f.skip || f.event.Kind >= KindOpen && !s.opts.Notices:
		default:
			return f.event, nil
		}
	}
	return Event{}, s.err
}

// take notes what a frame says. The error is the end.
func (s *Subscription) take(f *frame) error {
	if f.end {
		s.reason = f.reason
		return io.EOF
	}
	if f.event.Kind == KindValue {
		again, err := s.hold(f)
		if err != nil {
			return err
		}
		if again { // from before this event: each value comes whole at first
			s.disconnect()
			f.skip = true
			return nil
		}
	}
	s.cursor = cmp.Or(s.conn.decoder.LastEventID(), s.cursor)
	s.failures, s.began = 0, true
	switch {
	case f.event.Kind == KindOpen:
		s.session = f.event.Open.Session
	case f.gap != nil:
		s.forget()
	case f.expiring:
		f.skip = true
		s.renew()
	}
	return nil
}

// renew gets a new credential before the one of the stream expires, and comes back with
// it.
func (s *Subscription) renew() {
	old := s.conn.used
	if old == nil || s.cursor == "" || s.renewed == old {
		return // the stream ends, and it is renewed then
	}
	s.renewed = old
	next, err := s.client.creds.get(s.conn.ctx, old)
	if err == nil && next.Credential != old.Credential {
		s.disconnect()
	}
}

// hold applies a patch to the value before it, and keeps values for that. Where there is
// none, it reports that the stream is to begin again: a hub sends no patch to a stream
// that was not sent the value before. It is reported once for an event, because who may
// publish to a channel can publish what looks like a patch. That is an event then.
func (s *Subscription) hold(f *frame) (again bool, err error) {
	name, old := f.event.Channel, s.values[f.event.Channel]
	if f.patch != nil {
		value, err := applyPatch(old, f.patch)
		switch {
		case err == nil:
			f.event.Value = value
		case s.doubted != f.event.ID && f.event.ID != "":
			s.doubted, s.patched = f.event.ID, true
			return true, nil
		default:
			f.event.Kind = KindEvent
			return false, nil
		}
	}
	f.event.Data = nil
	if !s.patched {
		return false, nil
	}
	s.held += len(f.event.Value) - len(old)
	if f.event.Value == nil {
		delete(s.values, name)
		return false, nil
	}
	if s.held > s.opts.MaxValues {
		return false, fmt.Errorf("the values that the subscription reads have more than %d bytes, which is its MaxValues", s.opts.MaxValues)
	}
	if s.values == nil {
		s.values = make(map[string][]byte)
	}
	s.values[name] = slices.Clone(f.event.Value) // the caller owns the event
	return false, nil
}

// forget drops all values: they are told anew.
func (s *Subscription) forget() { s.values, s.held = nil, 0 }

// finish ends the subscription.
func (s *Subscription) finish(err error) {
	s.disconnect()
	s.forget()
	s.err = err
	s.stop(err)
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

// lost decides what follows a connection that has ended or failed: another one after a
// time, of which it returns a notice if that is asked for; or the end.
func (s *Subscription) lost(err error) (notice Event, ok bool) {
	if s.ctx.Err() != nil {
		s.finish(context.Cause(s.ctx))
		return notice, false
	}
	if s.failures == 0 {
		s.since = time.Now()
	}
	s.failures++
	refused, answered := errors.AsType[*Error](err)
	_, broken := errors.AsType[*ProtocolError](err)
	_, bad := errors.AsType[*credentialError](err)
	switch {
	case errors.Is(err, errEnded):
		s.finish(io.EOF)
		return notice, false
	case broken, answered && !refused.Temporary(), s.opts.MustConnect && !s.began, bad && !s.began,
		s.opts.GiveUp > 0 && time.Since(s.since) >= s.opts.GiveUp:
		s.finish(err)
		return notice, false
	}
	s.wait = cmp.Or(s.retry, jitter(2*s.client.opts.MinBackoff))
	if s.failures > 1 {
		s.wait = max(s.wait, s.client.backoff(s.failures-1))
	}
	if answered {
		s.wait = max(s.wait, refused.RetryAfter)
	}
	s.waiting = true
	return Event{Kind: KindRetry, Err: err, Wait: s.wait}, s.opts.Notices
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
