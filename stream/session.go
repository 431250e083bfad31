// Package stream writes the events of a broker to the connections of its
// subscribers, as text/event-stream. It adds what a client needs besides: a
// cursor to resume from, heartbeats, announcements of gaps, reconnect delays.
//
//	server := stream.NewServer(b)
//	defer server.Close()
//	…
//	s, err := server.Session(stream.Options{Subscribe: broker.SubscribeOptions{Channels: []string{"match.7"}}})
//	if err != nil { … } // nothing has been written yet
//	return s.Serve(w, r)
//
// There are two ways to write a stream, which differ in cost and nothing else.
// An attached stream (Serve, or Begin and Wait) is written to the
// http.ResponseWriter while its handler waits. A detached stream has taken the
// connection from the HTTP server (Detach), or a stream of HTTP/3 (DetachStream),
// and its handler has returned; one goroutine for each core writes the detached
// streams. Session.next decides what is written, for both.
package stream

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// EndID is the id of the event that ends a stream for good, see Session.End. A
// handler must answer a request with this last event id with status 204, which
// stops an EventSource.
const EndID = "evstream.end"

// Reason says why a stream ended.
type Reason string

// The reasons. Some are set by this package, others by callers of Session.Close.
const (
	ReasonClient   Reason = "client"   // the client closed the connection, or it broke
	ReasonSlow     Reason = "slow"     // a write was stalled for longer than Options.WriteTimeout, or was aborted; or broker.Looks kept it from going on
	ReasonEnded    Reason = "ended"    // Session.End was called, or all its channels are closed
	ReasonShutdown Reason = "shutdown" // the process is exiting
	ReasonReload   Reason = "reload"   // the configuration was replaced
	ReasonRefused  Reason = "refused"  // the client may not read its channels any more
	ReasonAge      Reason = "max_age"  // Options.MaxAge has passed
	ReasonExpired  Reason = "expired"  // Options.Expires has passed
	ReasonRevoked  Reason = "revoked"  // the credential, its user or the session was revoked
	ReasonReplaced Reason = "replaced" // its ticket was used for another stream
	ReasonClosed   Reason = "closed"   // the broker or the Server was closed
	ReasonGap      Reason = "gap"      // events were lost to it, and with Options.Raw it cannot be told
	ReasonError    Reason = "error"    // the opening could not be written, or the ResponseWriter panicked
)

// newID returns 128 random bits, which cannot be guessed, as text that commands do not take
// for a flag.
func newID() string {
	for {
		var b [16]byte
		_, _ = rand.Read(b[:]) // does not fail: it ends the process instead
		if id := base64.RawURLEncoding.EncodeToString(b[:]); id[0] != '-' {
			return id
		}
	}
}

// MayBeID reports whether a session can have that id, if its Options gave it none: what
// newID returns, at a node with a name after that and a dot.
func MayBeID(s string) bool {
	if i := strings.LastIndexByte(s, '.'); i >= 0 {
		if strings.Trim(s[:i], "\t\r\n ") != s[:i] || i == 0 {
			return false
		}
		s = s[i+1:]
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(s) == base64.RawURLEncoding.EncodedLen(16)
}

// jitter returns a random duration of at least low and less than high.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + mathrand.N(high-low) //nolint:gosec // it spreads load and guards nothing
}

// ErrServed is returned by Serve, Begin and Detach if the session was served or
// has ended already.
var ErrServed = errors.New("the session was served or ended already")

// ErrGap is the error of a stream that cannot announce a gap, and would begin with one.
var ErrGap = errkind.New("gap", "", "events after the last event id are lost, or it is not of this hub; since=earliest begins with what is kept")

// Session is one subscriber's stream, from Server.Session to its end. Its
// methods are safe for concurrent use, but for Size.
type Session struct {
	server   *Server
	sub      *broker.Subscription
	id       string
	behavior *behavior // not modified: many sessions share it
	*extras            // not modified: see noExtras
	onEnd    func()
	figures  *figures    // that it counts among; set anew before it is adopted by a writer
	state    streamState // used only by the goroutine that writes the stream

	// What is woken to write the stream. One of them is set once it is served.
	attached atomic.Pointer[attached]
	detached atomic.Pointer[detached]
	timer    timerEntry

	delivered atomic.Uint64
	requested atomic.Bool // requests have changed since takeRequests

	mu             sync.Mutex // guards what follows
	serving, ended bool
	requests       *requests     // nil for most
	done           chan struct{} // see Done; nil until it is called
}

// requests are what others want of a stream. Session.mu guards them.
type requests struct {
	reason   Reason        // why the stream is to end, or has ended
	endAt    instant       // when the stream is to end, if reason is set
	endText  string        // that EndBecause tells the client
	pushed   []byte        // encoded events that wait to be written
	pushRoom chan struct{} // closed when pushed was taken; nil unless a Push waits
}

// extras holds the Options that few sessions have.
type extras struct {
	ignored  []string // Options.Ignored, until the opening is written
	prologue []byte   // Options.Opening, until it is written
	rewriter Rewriter
}

// noExtras are those of most sessions.
var noExtras = &extras{}

func extrasOf(o *Options) *extras {
	if o.Ignored == nil && o.Opening == nil && o.Rewriter == nil {
		return noExtras
	}
	return &extras{ignored: o.Ignored, prologue: o.Opening, rewriter: o.Rewriter}
}

// afterOpening are the extras of a stream whose opening is made.
func (e *extras) afterOpening() *extras { return extrasOf(&Options{Rewriter: e.rewriter}) }

// behavior holds the Options that are needed while the stream lasts.
type behavior struct {
	noOpen, padding, heartbeatEvent, raw, whole bool

	heartbeat, retryMin, retryMax, writeTimeout time.Duration
}

// Session subscribes to the channels of o. Nothing is written yet: an error, which
// is that of broker.Subscribe, or ErrGap with Options.Raw, can still be answered with a status. The Session
// must be served, detached or closed, or else the subscription remains.
func (s *Server) Session(o Options) (*Session, error) {
	o.fill()
	if o.Subscribe.ID == "" {
		o.Subscribe.ID = s.broker.SessionName(newID())
	}
	n := &Session{
		server:  s,
		id:      o.Subscribe.ID,
		onEnd:   o.OnEnd,
		figures: s.figuresOf(),
		extras:  extrasOf(&o),
		behavior: s.behaviorOf(behavior{
			noOpen: o.NoOpen, padding: o.Padding, heartbeatEvent: o.HeartbeatEvent && !o.Raw, raw: o.Raw, whole: o.Whole,
			heartbeat: o.Heartbeat, retryMin: o.RetryMin, retryMax: o.RetryMax, writeTimeout: o.WriteTimeout,
		}),
	}
	n.timer.session = n
	n.state.planEnd(&o, s.now())
	o.Subscribe.Waker = (*sessionWaker)(n)
	var err error
	if n.sub, err = s.broker.Subscribe(o.Subscribe); err != nil {
		return nil, err
	}
	if gap := n.sub.Gap(); gap != nil && o.Raw {
		n.sub.Close()
		return nil, fmt.Errorf("%w (%s)", ErrGap, gap.Reason)
	}
	return n, nil
}

// behaviorOf returns b for a session to keep: that of the session before, if it is the same,
// as it nearly always is.
func (s *Server) behaviorOf(b behavior) *behavior {
	if last := s.behavior.Load(); last != nil && *last == b {
		return last
	}
	s.behavior.Store(&b)
	return &b
}

// ID returns the id of the session, which cannot be guessed unless the Options
// gave it.
func (s *Session) ID() string { return s.id }

// Detached reports whether the stream is served detached: see Detach.
func (s *Session) Detached() bool { return s.detached.Load() != nil }

// RetryMax returns the longest reconnect delay that the client is told.
func (s *Session) RetryMax() time.Duration { return s.behavior.retryMax }

// Cursor returns the event id up to which the session has read: everything up to
// it was written, is being written, or was filtered out.
func (s *Session) Cursor() broker.ID { return s.sub.Cursor() }

// Delivered returns the number of events that were written.
func (s *Session) Delivered() uint64 { return s.delivered.Load() }

// Size returns how many bytes of the body were written. It must be called only
// after Done is closed.
func (s *Session) Size() int64 { return s.state.size }

// Channels returns the channels and patterns that the session reads.
func (s *Session) Channels() []string { return s.sub.Channels() }

// Lag returns for how long the oldest event has waited that the session has still to
// read; see broker.Subscription.Lag.
func (s *Session) Lag() time.Duration { return s.sub.Lag() }

// Join adds a channel or pattern; see broker.Subscription.Join. The client is told by an
// event evstream.joined, before the first event of the channel.
func (s *Session) Join(name string, start broker.Start) error { return s.sub.Join(name, start) }

// Leave removes a channel or pattern, and reports whether the session read it. The
// client is told by an event evstream.left, after the last event of the channel.
func (s *Session) Leave(name string) bool { return s.sub.Leave(name) }

// Done returns a chan that is closed when the stream has ended.
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

// Reason returns why the stream ended, once Done is closed.
func (s *Session) Reason() Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == nil {
		return ""
	}
	return s.requests.reason
}

// request returns the requests of s, to add to them. The caller holds Session.mu.
func (s *Session) request() *requests {
	if s.requests == nil {
		s.requests = new(requests)
	}
	return s.requests
}

// End ends the stream for good. The events published so far are still written,
// then an event "end" with EndID, which keeps the client from reconnecting.
//
// End, Close and Drain return at once; Done tells when the stream has ended. They
// may be called again: the request that is due first counts. A session that is
// not served yet ends at once, whichever is called.
func (s *Session) End() { s.scheduleEnd(0, ReasonEnded) }

// EndBecause is End with a reason for the client: the data of the event is
// {"reason":…}. If it is called more than once, the first reason counts.
func (s *Session) EndBecause(reason string) {
	s.mu.Lock()
	if r := s.request(); r.endText == "" {
		r.endText = reason
	}
	s.mu.Unlock()
	s.End()
}

// Close ends the stream. What is new is still written, but one batch at most,
// and nothing if the reason is that the client may not read it any more; then a
// reconnect delay.
func (s *Session) Close(reason Reason) { s.scheduleEnd(0, reason) }

// Drain is Close at a random moment within the given time, so that clients do not
// reconnect all at once.
func (s *Session) Drain(within time.Duration, reason Reason) {
	s.scheduleEnd(jitter(0, min(within, maxDuration)), reason)
}

// Abort makes the current write fail if the client does not take it, which ends
// the stream. A stream that is not stalled goes on.
func (s *Session) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return // the connection may carry another request by now
	}
	if d := s.detached.Load(); d != nil {
		d.abort()
	} else if a := s.attached.Load(); a != nil {
		a.abort()
	}
}

// scheduleEnd schedules the end, unless an end that is due sooner is scheduled.
func (s *Session) scheduleEnd(in time.Duration, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.server.now() + in
	r := s.request()
	if s.ended || r.reason != "" && at >= r.endAt {
		return
	}
	r.reason, r.endAt = reason, at
	if !s.serving {
		s.finish(reason)
		return
	}
	s.requested.Store(true)
	s.Wake()
}

// startServing marks the session as served. It returns ErrServed if it was
// already, or has ended.
func (s *Session) startServing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.ended {
		return ErrServed
	}
	s.serving = true
	return nil
}

// end ends a stream that was served. It is called once, by the goroutine that
// wrote the stream, or by the closer.
func (s *Session) end(reason Reason) {
	s.mu.Lock()
	s.finish(reason)
	s.mu.Unlock()
	s.server.timers.remove(&s.timer)
	if s.onEnd != nil {
		s.onEnd()
	}
}

// takePushed takes the events that were pushed, and lets others be pushed.
func (r *requests) takePushed() []byte {
	taken := r.pushed
	r.pushed = nil
	if r.pushRoom != nil {
		close(r.pushRoom)
		r.pushRoom = nil
	}
	return taken
}

// finish releases what the session holds, once. The caller holds Session.mu.
func (s *Session) finish(reason Reason) {
	if s.ended {
		return
	}
	r := s.request()
	s.ended, r.reason = true, reason
	r.takePushed()
	s.sub.Close()
	if s.done != nil {
		close(s.done)
	}
}

// Wake has the stream written if there is something to write. It does not block.
func (s *Session) Wake() { (*sessionWaker)(s).Wake(false) }

// onTimer is called by the timer wheel, with its lock held, at the time that the
// session has set. It returns the next time at which to be called, or never.
func (s *Session) onTimer(now instant) instant {
	if a := s.attached.Load(); a != nil {
		return a.onTimer(now)
	}
	(*sessionWaker)(s).Wake(true)
	return never
}

// sessionWaker is a Session as the broker wakes it.
type sessionWaker Session

// Wake implements broker.Waker.
func (s *sessionWaker) Wake(crowd bool) bool {
	if d := s.detached.Load(); d != nil {
		d.wake(crowd)
		return false
	}
	if a := s.attached.Load(); a != nil {
		a.wake(crowd)
	}
	return true
}
