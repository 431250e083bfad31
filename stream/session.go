// Package stream serves one subscriber's connection: it turns a cursor into
// bytes on an http.ResponseWriter, with what keeps the connection alive and
// tells the client where it stands.
//
//	s, err := stream.New(hub, stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"match.7"}}})
//	if err != nil { … } // nothing has been written yet
//	return s.Serve(w, r)
package stream

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// EndID is the id of the event that ends a stream for good: a client that
// sends it back as its last event id is answered 204 and stops.
const EndID = "evstream.end"

// Reason says why a stream ended.
type Reason string

// The reasons.
const (
	ReasonClient   Reason = "client"   // the client went away
	ReasonSlow     Reason = "slow"     // a write was stalled past its time
	ReasonEnded    Reason = "ended"    // End was called
	ReasonShutdown Reason = "shutdown" // the server is going down
	ReasonReload   Reason = "reload"   // the configuration was replaced
	ReasonRefused  Reason = "refused"  // its channels are not allowed any more
	ReasonAge      Reason = "max_age"  // it has lasted as long as it may
	ReasonExpired  Reason = "expired"  // the credential that it was opened with has expired
	ReasonRevoked  Reason = "revoked"  // the credential, its user or the session was revoked
	ReasonReplaced Reason = "replaced" // its ticket was used for another stream
	ReasonClosed   Reason = "closed"   // the broker was closed
	ReasonError    Reason = "error"    // the response could not be written at all
)

// Options say what a stream reads and how it behaves. Durations that are zero
// take the default.
type Options struct {
	Subscribe broker.SubscribeOptions // without an ID, one is made

	NoOpen  bool // no opening event
	Padding bool // 2 KiB of comment first, for middleboxes that buffer

	// Heartbeat is how long a stream is quiet before it gets a sign of life.
	// Default: 15s; below zero, never.
	Heartbeat time.Duration
	// HeartbeatEvent sends an event named "heartbeat" instead of a comment.
	HeartbeatEvent bool
	// RetryMin and RetryMax bound the random time that a client is told to
	// wait before it reconnects. Default: 2s and 5s.
	RetryMin, RetryMax time.Duration
	// WriteTimeout is how long a write may be stalled. Default: 10s.
	WriteTimeout time.Duration
	// MaxAge is how long a stream may last; each gets a random 80 to 100 % of
	// it. Default: as long as it likes.
	MaxAge time.Duration
	// Expires is when the credential expires that the stream was opened with.
	// The client is told 30 s before, or at half of the time if that is less,
	// by an event "evstream.expiring"; then the stream ends. Default: never.
	Expires time.Time
}

func (o *Options) fill() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&o.Heartbeat, 15*time.Second)
	set(&o.RetryMin, 2*time.Second)
	set(&o.RetryMax, max(5*time.Second, o.RetryMin))
	set(&o.WriteTimeout, 10*time.Second)
	if o.Subscribe.ID == "" {
		o.Subscribe.ID = newID()
	}
}

// newID is a name that cannot be guessed: 128 random bits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// jitter is a random duration from low to high.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + mathrand.N(high-low) //nolint:gosec // it spreads load and guards nothing
}

// ErrServed is the error of a Session that was served or ended already.
var ErrServed = errors.New("the session was served or ended already")

// Session is one subscriber's stream, from New to the end of Serve. Its
// methods are safe for concurrent use.
type Session struct {
	broker    *broker.Broker
	sub       *broker.Subscription
	o         Options
	delivered atomic.Uint64
	control   chan struct{} // something below has changed
	done      chan struct{}

	mu      sync.Mutex // guards what follows
	serving bool
	reason  Reason    // why it is to end, or has ended
	endAt   time.Time // when it is to end, if reason is set
	pushed  []byte    // encoded, waiting to be written
	room    chan struct{}
}

// New subscribes. The limits of the broker are decided here, before anything
// is written. The Session must be served, or closed.
func New(b *broker.Broker, o Options) (*Session, error) {
	o.fill()
	sub, err := b.Subscribe(o.Subscribe)
	if err != nil {
		return nil, err
	}
	return &Session{
		broker: b, sub: sub, o: o,
		control: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}, nil
}

// ID names the session. It cannot be guessed.
func (s *Session) ID() string { return s.o.Subscribe.ID }

// Cursor is the position up to which everything was sent.
func (s *Session) Cursor() broker.ID { return s.sub.Cursor() }

// Delivered is the number of events that were written.
func (s *Session) Delivered() uint64 { return s.delivered.Load() }

// Channels are the channels and patterns that the session reads.
func (s *Session) Channels() []string { return s.sub.Channels() }

// Join adds a channel or pattern; see broker.Subscription.Join.
func (s *Session) Join(name string, start broker.Start) error { return s.sub.Join(name, start) }

// Leave drops a channel or pattern, and reports whether it was read.
func (s *Session) Leave(name string) bool { return s.sub.Leave(name) }

// Done is closed when the stream has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Reason is why the stream ended, once Done is closed.
func (s *Session) Reason() Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// End ends the stream for good: what is new by then is sent, then an event
// "end" whose id keeps the client from coming back.
func (s *Session) End() { s.endIn(0, ReasonEnded) }

// Close ends the stream: what is new is sent, or the next part of it where that
// is much, then the time after which the client may reconnect.
func (s *Session) Close(reason Reason) { s.endIn(0, reason) }

// Drain closes the stream at a random moment within the given time.
func (s *Session) Drain(within time.Duration, reason Reason) {
	s.endIn(jitter(0, within), reason)
}

// endIn plans the end. An earlier plan is kept if it is due sooner.
func (s *Session) endIn(in time.Duration, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(in)
	if s.reason != "" && !at.Before(s.endAt) {
		return
	}
	s.reason, s.endAt = reason, at
	if !s.serving {
		s.finish()
		return
	}
	s.signal()
}

// planned is when and why the stream is to end; a zero time if it is not.
func (s *Session) planned(t *times) (at time.Time, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		return t.endAt, t.endReason
	}
	return s.endAt, s.reason
}

// claim begins serving, once.
func (s *Session) claim() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.reason != "" {
		return ErrServed
	}
	s.serving = true
	return nil
}

// finish lets go of everything. Session.mu is held.
func (s *Session) finish() {
	select {
	case <-s.done:
	default:
		s.sub.Close()
		close(s.done)
	}
}

func (s *Session) signal() {
	select {
	case s.control <- struct{}{}:
	default:
	}
}
