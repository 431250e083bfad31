package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"time"
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
		return errors.New("none of Last, GiveUp, MaxEvent and MaxValues is negative")
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

// finish ends the subscription.
func (s *Subscription) finish(err error) {
	s.disconnect()
	s.forget()
	s.err = err
	s.stop(err)
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
