// Package httpapi is the hub over HTTP, as an http.Handler: a channel is a URL.
// GET subscribes to it as a stream of server-sent events, POST publishes to it,
// PUT, PATCH and DELETE change its value. docs/http.md is the reference.
//
// What the server around it knows and net/http does not, a [Host] says; without
// one it serves under any net/http server.
package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi/internal/origins"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Config configures a Handler.
type Config struct {
	// Mount is the path that channels lie beneath, without a final slash: with
	// "/live", the channel "match.7" is "/live/match.7". Default: the root.
	Mount string

	// Access decides who may do what. Required.
	Access *access.Policy
	// Auth finds out who makes a request. Default: everybody is anonymous.
	Auth *auth.Authenticator

	// CORS has the origins that browsers may call from, such as
	// "https://example.com". "https://*.example.com" is all subdomains,
	// "http://localhost:*" any port of this machine, "null" pages without an origin and
	// "*" any origin; these may call without credentials only. Default: the same origin.
	CORS []string

	// IgnoreQuery has names of query parameters that are other handlers': what is no
	// parameter of a request is refused, or listed in the opening event of a stream. A
	// final "*" stands for any ending: "utm_*". Names that begin with "_" are always
	// ignored. Default: none.
	IgnoreQuery []string

	// Streams is how streams behave.
	Streams Streams

	// MaxBody is the largest body of a publish in bytes; where a body streams events,
	// the largest event. Default: 1 MiB.
	MaxBody int

	// RefuseOverload answers a subscriber over a limit with an error status, such as
	// 503, after which an EventSource never tries again. Default: status 200, a retry
	// time and the end of the stream, so that an EventSource comes back.
	RefuseOverload bool

	// Host is the server around the handler. Default: that of net/http.
	Host Host
	// Taker takes streams over HTTP/3 from the server: h3stream.Take does from that of
	// quic-go. Default: they are attached.
	Taker stream.Taker
	// Reload says what becomes of streams when the configuration is replaced.
	// Default: it never is.
	Reload Reload

	// Logger is for what concerns the operator. Default: slog.Default.
	Logger *slog.Logger
}

// Streams is how streams behave. Zero fields are defaults.
type Streams struct {
	// Heartbeat is how long a stream is quiet before it gets a heartbeat.
	// Default: 15s; below 0: never.
	Heartbeat time.Duration
	// HeartbeatEvent sends heartbeats as events named "heartbeat" instead of
	// comments.
	HeartbeatEvent bool
	// RetryMin and RetryMax are the bounds of the random time that a client is
	// told to wait before it reconnects. Default: 2s and 5s; one alone moves the other.
	RetryMin, RetryMax time.Duration
	// WriteTimeout is how long a write may be stalled before the stream is
	// closed. Default: 10s.
	WriteTimeout time.Duration
	// MaxAge is how long a stream may last, at most; each gets a random 80 to
	// 100 % of it. Default: unlimited.
	MaxAge time.Duration
	// Drain is the time over which streams end on exit. Default: 5s.
	Drain time.Duration
	// OnReloadDrain is the time over which streams end when the configuration is
	// replaced. Default: they live on, if the new rules allow it.
	OnReloadDrain time.Duration
	// Attached leaves all streams with the server. Default: those that can be are detached, on
	// Linux: over HTTP/1.1, with TLS or without; over HTTP/2 if their connection is a
	// h2front.Conn; and on every system over HTTP/3 if Config.Taker is set.
	Attached bool
}

// fill sets the defaults, and reports the first impossible value.
func (s *Streams) fill() error {
	if s.RetryMin == 0 && s.RetryMax > 0 {
		s.RetryMin = min(2*time.Second, s.RetryMax)
	}
	for _, d := range []struct {
		name string
		to   *time.Duration
		def  time.Duration
	}{
		{"RetryMin", &s.RetryMin, 2 * time.Second},
		{"RetryMax", &s.RetryMax, max(5*time.Second, s.RetryMin)},
		{"WriteTimeout", &s.WriteTimeout, 10 * time.Second},
		{"MaxAge", &s.MaxAge, 0},
		{"Drain", &s.Drain, 5 * time.Second},
		{"OnReloadDrain", &s.OnReloadDrain, 0},
	} {
		if *d.to < 0 {
			return fmt.Errorf("%s must not be below 0, but is %s", d.name, *d.to)
		}
		if *d.to == 0 {
			*d.to = d.def
		}
	}
	if s.Heartbeat == 0 {
		s.Heartbeat = 15 * time.Second
	}
	if s.RetryMin > s.RetryMax {
		return fmt.Errorf("RetryMin must not be above RetryMax, but %s is above %s", s.RetryMin, s.RetryMax)
	}
	return nil
}

// DefaultMaxBody is the size of a publish body, in bytes.
const DefaultMaxBody = 1 << 20

// Handler serves a hub over HTTP, beneath a mount. It is immutable and safe for
// concurrent use.
type Handler struct {
	hub    *hub.Hub
	mount  string // "" or "/live"
	access *access.Policy
	auth   *auth.Authenticator // nil: everybody is anonymous
	cors   *origins.Policy
	stream Streams

	accepts query.Accepts
	mayJoin func(who *access.Caller, name string) bool // of hub.Standing

	maxBody  int
	overload int // 503, or 200 for "retry"

	host   Host
	taker  stream.Taker // nil: streams over HTTP/3 are attached
	reload Reload       // nil: never
	logger *slog.Logger
}

// New returns a handler of h, which remains the caller's to close. Errors are about c.
func New(h *hub.Hub, c Config) (*Handler, error) {
	if c.Access == nil {
		return nil, errors.New("nothing is allowed: Access is not set")
	}
	if err := CheckMount(c.Mount); err != nil {
		return nil, err
	}
	cors, err := origins.New(c.CORS)
	if err != nil {
		return nil, err
	}
	if c.MaxBody < 0 {
		return nil, fmt.Errorf("MaxBody must be above 0, not %d", c.MaxBody)
	}
	if c.Auth != nil {
		if err := origins.CheckAmbient(c.CORS, c.Auth.Ambient()); err != nil {
			return nil, err
		}
		if p := c.Auth.QueryParameter(); query.Reserved(p) {
			return nil, fmt.Errorf("the query parameter %q cannot have a credential: it has a meaning of its own", p)
		}
	}
	if err := CheckIgnoreQuery(c.IgnoreQuery); err != nil {
		return nil, err
	}
	handler := &Handler{
		accepts: acceptsOf(&c),
		hub:     h, mount: c.Mount, access: c.Access, auth: c.Auth, cors: cors, stream: c.Streams,
		maxBody: c.MaxBody, overload: http.StatusOK,
		host: c.Host, taker: c.Taker, reload: c.Reload, logger: c.Logger,
	}
	handler.mayJoin = func(who *access.Caller, name string) bool {
		return c.Access.Decide(who, access.Subscribe, name).Allowed
	}
	if err := handler.stream.fill(); err != nil {
		return nil, err
	}
	if handler.maxBody == 0 {
		handler.maxBody = DefaultMaxBody
	}
	if c.RefuseOverload {
		handler.overload = http.StatusServiceUnavailable
	}
	if handler.host == nil {
		handler.host = netHost{}
	}
	if handler.logger == nil {
		handler.logger = slog.Default()
	}
	return handler, nil
}

// Hub returns the hub that is served.
func (h *Handler) Hub() *hub.Hub { return h.hub }

// Mount returns Config.Mount.
func (h *Handler) Mount() string { return h.mount }

// Host returns Config.Host, or its default.
func (h *Handler) Host() Host { return h.host }

// ServeHTTP implements http.Handler. A request outside of the mount is answered
// with 404.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ours, err := h.Serve(w, r)
	if !ours {
		err = h.fail(w, problem.NotFound.Because("the path lies outside of %s", h.mount+"/"))
	}
	if err != nil {
		h.logger.Error("answering a request", slog.Any("error", err))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// identify returns who makes a request. Matchers of rules are asked here, once: all
// later decisions are about the caller.
func (h *Handler) identify(r *http.Request) (*access.Caller, error) {
	return h.identifyFor(r, noStream)
}

// identifyFor is identify for a request that may open a stream.
func (h *Handler) identifyFor(r *http.Request, to use) (*access.Caller, error) {
	if h.access.AllowsAll() {
		return administrator, nil
	}
	who := access.AnonymousCaller()
	if h.auth != nil {
		var err error
		if who, err = h.authenticate(r, to); err != nil {
			return nil, err
		}
	}
	matched := h.access.Matched(r, auth.Previous(r))
	if matched == nil && who.Matched == nil {
		return who, nil
	}
	with := *who // who may be shared
	with.Matched = matched
	return &with, nil
}

// authenticate finds out who makes a request. If too many credentials of the client's
// address were refused, it looks at no more of them.
func (h *Handler) authenticate(r *http.Request, to use) (who *access.Caller, err error) {
	tries := auth.Previous(r) == nil && h.auth.Presents(r)
	if tries {
		if err := h.hub.MayTry(h.host.ClientIP(r)); err != nil {
			return nil, err
		}
	}
	if to == newStream {
		who, err = h.auth.AuthenticateStream(r)
	} else {
		who, err = h.auth.Authenticate(r)
	}
	if err != nil && tries {
		if s := problem.Of(err).Status(); s == http.StatusUnauthorized || s == http.StatusForbidden {
			h.hub.CredentialRefused(h.host.ClientIP(r))
		}
	}
	return who, err
}

// administrator is the caller of a handler that allows everything.
var administrator = &access.Caller{Admin: true}

// CheckMount returns an error if s cannot be Config.Mount.
func CheckMount(s string) error {
	if s == "" {
		return nil
	}
	bad := !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "*?#%{}\\ ")
	for segment := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		bad = bad || segment == "" || segment == "." || segment == ".."
	}
	if bad {
		return fmt.Errorf("mount must be a path such as /live, without a final slash, wildcards or escapes, not %q", s)
	}
	return nil
}

// CheckCORS returns an error about the first of origins that Config.CORS cannot have.
func CheckCORS(list []string) error {
	_, err := origins.New(list)
	return err
}

// CheckAmbient reports origins that cannot stand beside credentials that browsers
// send unasked: a page of any origin would call with its visitor's.
func CheckAmbient(list []string, c *auth.Config) error {
	return origins.CheckAmbient(list, c.Cookie != "" || c.Outer != nil)
}
