package httpapi

import (
	"context"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Host is what a handler needs of the server around it, beyond net/http. Its methods
// must be safe for concurrent use.
type Host interface {
	// ClientIP is the address of the client, without a port, as limits count it: a
	// loopback address, which is not limited, only if the client is on this host.
	ClientIP(r *http.Request) string
	// Conn is the connection of the request, as the server reads it; nil if it is not
	// known. Without it no stream is detached.
	Conn(r *http.Request) net.Conn

	// LiftTimeouts lifts the server's own timeouts for a request that lasts; the
	// deadlines of its connection are lifted by the handler. From then on a body may
	// be idle for idle, unless that is 0, and a write may take writeTimeout. restore
	// undoes it.
	LiftTimeouts(r *http.Request, idle, writeTimeout time.Duration) (restore func())
	// DisableDeadlines keeps the server from setting deadlines of writes, because a
	// stream sets its own. RestoreDeadlines undoes it.
	DisableDeadlines(r *http.Request)
	RestoreDeadlines(r *http.Request, writeTimeout time.Duration)

	// Record returns what is kept of a request while its stream lasts, for Reload and
	// BeginLog.
	Record(r *http.Request) any
	// BeginLog takes the line of a request in the access log over from the server,
	// which would write it when the handler returns; a detached stream goes on. It
	// returns nil if there is no such line. EndLog writes the line when the stream has
	// ended. After a reload that is the EndLog of another Host: that of the handler
	// which the stream was handed over to.
	BeginLog(r *http.Request, record any) StreamLog
	EndLog(l StreamLog, s *stream.Session)
	// AddLog adds what is known of an attached stream, which has ended, to the line
	// that the server writes for its request.
	AddLog(r *http.Request, s *stream.Session)

	// Fail may take the answer of a problem over, for a server that has error pages of
	// its own; handled reports whether it did, and the handler then returns err from
	// Serve. The headers of the answer are set already.
	Fail(w http.ResponseWriter, p *problem.Error) (handled bool, err error)
}

// Tracer is a Host that is told what becomes of what is published, with the context of the
// request. A request with a body of many events publishes them in several parts.
type Tracer interface {
	// Published is called when ops were published, with results, or refused with err. Of
	// the operations only channels and kinds may be read.
	Published(ctx context.Context, ops []broker.Op, results []broker.Result, err error)
}

// Published tells a Tracer.
func (h *Handler) Published(ctx context.Context, ops []broker.Op, results []broker.Result, err error) {
	if t, ok := h.host.(Tracer); ok {
		t.Published(ctx, ops, results, err)
	}
}

// StreamLog is the line of a detached stream in the access log.
type StreamLog interface {
	// Wrap returns a writer that writes to w and notes its header for the line.
	Wrap(w http.ResponseWriter) http.ResponseWriter
	// Cancel gives the line back to the server.
	Cancel(r *http.Request)
}

// netHost is the Host of a plain net/http server.
type netHost struct{}

// ClientIP is the address of the connection's other end. If that is this host, the
// client may be one of a proxy.
func (netHost) ClientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return hub.ClientAddress(host, host, slices.Values(r.Header["X-Forwarded-For"]))
}

// Conn is known if the server's ConnContext is stream.ConnContext.
func (netHost) Conn(r *http.Request) net.Conn { return stream.ConnOf(r) }

func (netHost) LiftTimeouts(*http.Request, time.Duration, time.Duration) func() { return func() {} }

func (netHost) DisableDeadlines(*http.Request) {}

func (netHost) RestoreDeadlines(*http.Request, time.Duration) {}

func (netHost) Record(*http.Request) any { return nil }

func (netHost) BeginLog(*http.Request, any) StreamLog { return nil }

func (netHost) EndLog(StreamLog, *stream.Session) {}

func (netHost) AddLog(*http.Request, *stream.Session) {}

// Fail leaves all problems to the handler.
func (netHost) Fail(http.ResponseWriter, *problem.Error) (bool, error) { return false, nil }
