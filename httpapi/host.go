package httpapi

import (
	"net"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Host is what the server around the handler knows and net/http does not. Its
// methods are called by many goroutines at a time.
type Host interface {
	// ClientIP is the address of the client, without a port.
	ClientIP(r *http.Request) string
	// Conn is the connection that a request came over, as the server reads it;
	// nil where that is not known. Without it no stream is detached.
	Conn(r *http.Request) net.Conn

	// LiftTimeouts lifts what else than the deadlines of the connection would end
	// a request that lasts. A body may be idle for as long as idle says, if that
	// is not 0, and a write take writeTimeout. restore undoes it.
	LiftTimeouts(r *http.Request, idle, writeTimeout time.Duration) (restore func())
	// DisableDeadlines has the server set no deadlines of writes from now on,
	// for whoever sets its own; RestoreDeadlines is the way back.
	DisableDeadlines(r *http.Request)
	RestoreDeadlines(r *http.Request, writeTimeout time.Duration)

	// Record takes down a request for Reload, and for EndLog, as long as its
	// stream lasts.
	Record(r *http.Request) any
	// BeginLog takes the access log's line of a request over from the server,
	// because its stream goes on when the handler has returned; nil where there is
	// none. EndLog writes it. It is called on the Host of the handler that the
	// stream has by then.
	BeginLog(r *http.Request, record any) StreamLog
	EndLog(l StreamLog, s *stream.Session)
	// AddLog adds to the server's line of a request what is known of its stream,
	// which has ended.
	AddLog(r *http.Request, s *stream.Session)

	// Fail answers with a problem where the server has a way of its own, and
	// reports whether it has. The error is for the server. Headers are set
	// already.
	Fail(w http.ResponseWriter, p *problem.Error) (handled bool, err error)
}

// StreamLog is the access log's line of a stream that is detached.
type StreamLog interface {
	// Wrap returns w, whose header it notes when that is written.
	Wrap(w http.ResponseWriter) http.ResponseWriter
	// Cancel gives the line back to the server.
	Cancel(r *http.Request)
}

// netHost is the Host of a plain net/http server.
type netHost struct{}

// ClientIP is the address of the connection's other end.
func (netHost) ClientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Conn is known where stream.ConnContext is the server's ConnContext.
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
