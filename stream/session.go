// Package stream serves one subscriber's connection: it turns a cursor into
// bytes on a connection, with what keeps the connection alive and tells the
// client where it stands.
//
//	server := stream.NewServer(hub)
//	defer server.Close()
//	…
//	s, err := server.Session(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"match.7"}}})
//	if err != nil { … } // nothing has been written yet
//	return s.Serve(w, r)
//
// There are two ways to write a stream, which differ in cost and nothing else.
// Attached, the handler's goroutine writes to its http.ResponseWriter until
// the stream ends. Detached, the connection is taken from the HTTP server and
// the handler returns: one goroutine for each core writes to the sockets of
// all such streams. What is written is decided in one place, Session.next.
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

// Session is one subscriber's stream, from Server.Session to its end. Its
// methods are safe for concurrent use.
type Session struct {
	server   *Server
	sub      *broker.Subscription
	id       string
	behavior behavior
	onEnd    func()
	state    streamState // whoever writes the stream owns it

	// Who writes the stream, to be woken: one of them is set while it lasts.
	attached atomic.Pointer[attached]
	detached atomic.Pointer[detached] // detached
	timer    timerEntry

	delivered atomic.Uint64
	requested atomic.Bool // something below is new to the script

	mu             sync.Mutex // guards what follows
	serving, ended bool
	reason         Reason  // why it is to end, or has ended
	endAt          instant // when it is to end, if reason is set
	pushed         []byte  // encoded, waiting to be written
	pushRoom       chan struct{}
	done           chan struct{} // nil until somebody asks
}

// manner is how a stream behaves, from its Options.
type behavior struct {
	noOpen, padding, heartbeatEvent bool

	heartbeat, retryMin, retryMax, writeTimeout time.Duration
}

// Session subscribes. The limits of the broker are decided here, before
// anything is written. The Session must be served, detached or closed.
func (s *Server) Session(o Options) (*Session, error) {
	o.fill()
	if o.Subscribe.ID == "" {
		o.Subscribe.ID = s.broker.SessionName(newID())
	}
	n := &Session{
		server: s,
		id:     o.Subscribe.ID,
		onEnd:  o.OnEnd,
		behavior: behavior{
			noOpen: o.NoOpen, padding: o.Padding, heartbeatEvent: o.HeartbeatEvent,
			heartbeat: o.Heartbeat, retryMin: o.RetryMin, retryMax: o.RetryMax, writeTimeout: o.WriteTimeout,
		},
	}
	n.timer.session = n
	n.state.planEnd(&o, s.now())
	o.Subscribe.Waker = (*sessionWaker)(n)
	var err error
	if n.sub, err = s.broker.Subscribe(o.Subscribe); err != nil {
		return nil, err
	}
	return n, nil
}

// ID names the session. It cannot be guessed.
func (s *Session) ID() string { return s.id }

// Cursor is the position up to which everything was sent.
func (s *Session) Cursor() broker.ID { return s.sub.Cursor() }

// Delivered is the number of events that were written.
func (s *Session) Delivered() uint64 { return s.delivered.Load() }

// Size is how many bytes were written, once Done is closed.
func (s *Session) Size() int64 { return s.state.size }

// Channels are the channels and patterns that the session reads.
func (s *Session) Channels() []string { return s.sub.Channels() }

// Join adds a channel or pattern; see broker.Subscription.Join.
func (s *Session) Join(name string, start broker.Start) error { return s.sub.Join(name, start) }

// Leave drops a channel or pattern, and reports whether it was read.
func (s *Session) Leave(name string) bool { return s.sub.Leave(name) }

// Done is closed when the stream has ended.
func (s *Session) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.ended {
			close(s.done)
		}
	}
	return s.done
}

// Reason is why the stream ended, once Done is closed.
func (s *Session) Reason() Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// End ends the stream for good: what is new by then is sent, then an event
// "end" whose id keeps the client from coming back.
func (s *Session) End() { s.scheduleEnd(0, ReasonEnded) }

// Close ends the stream: what is new is sent, or the next part of it where that
// is much, then the time after which the client may reconnect.
func (s *Session) Close(reason Reason) { s.scheduleEnd(0, reason) }

// Drain closes the stream at a random moment within the given time.
func (s *Session) Drain(within time.Duration, reason Reason) {
	s.scheduleEnd(jitter(0, min(within, maxDuration)), reason)
}

// Abort fails what is being written to a client that does not take it. A
// stream that is not stalled goes on.
func (s *Session) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return // what was written to may be another's by now
	}
	if d := s.detached.Load(); d != nil {
		d.abort()
	} else if a := s.attached.Load(); a != nil {
		a.abort()
	}
}

// endIn plans the end. An earlier plan is kept if it is due sooner.
func (s *Session) scheduleEnd(in time.Duration, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.server.now() + in
	if s.ended || s.reason != "" && at >= s.endAt {
		return
	}
	s.reason, s.endAt = reason, at
	if !s.serving {
		s.finish(reason)
		return
	}
	s.requested.Store(true)
	s.Wake()
}

// claim begins serving, once.
func (s *Session) startServing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.ended {
		return ErrServed
	}
	s.serving = true
	return nil
}

// end is the end of a stream that was served.
func (s *Session) end(reason Reason) {
	s.mu.Lock()
	s.finish(reason)
	s.mu.Unlock()
	s.server.timers.remove(&s.timer)
	if s.onEnd != nil {
		s.onEnd()
	}
}

// finish lets go of everything. Session.mu is held.
func (s *Session) finish(reason Reason) {
	if s.ended {
		return
	}
	s.ended, s.reason, s.pushed = true, reason, nil
	s.sub.Close()
	if s.pushRoom != nil {
		close(s.pushRoom)
		s.pushRoom = nil
	}
	if s.done != nil {
		close(s.done)
	}
}

// Wake has whoever writes the stream see what there is to write. It never
// blocks.
func (s *Session) Wake() { (*sessionWaker)(s).Wake() }

// ring is called when a time has come that the wheel was asked for. It says
// when to call again, unless something else asks for a time before that.
func (s *Session) onTimer(now instant) instant {
	if a := s.attached.Load(); a != nil {
		return a.onTimer(now)
	}
	s.Wake()
	return never
}

// waking is a Session as the broker knows it.
type sessionWaker Session

// Wake implements broker.Waker.
func (s *sessionWaker) Wake() bool {
	if d := s.detached.Load(); d != nil {
		d.wake()
		return false
	}
	if a := s.attached.Load(); a != nil {
		a.wake()
	}
	return true
}
