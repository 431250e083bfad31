package evstream

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// accessLog writes the line of a detached stream when it ends. Caddy would
// write it when the handler returns, which is when the stream begins. The line
// is Caddy's: its logger, its name, its fields.
type accessLog struct {
	server *caddyhttp.Server
	logger *zap.Logger
}

// httpApp has the name of the module whose logger access logs are.
type httpApp struct{}

// CaddyModule implements caddy.Module.
func (httpApp) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "http"} }

// newAccessLog returns nil for a server without access logs.
func newAccessLog(ctx caddy.Context, server *caddyhttp.Server) *accessLog {
	if server.Logs == nil {
		return nil
	}
	return &accessLog{server: server, logger: ctx.Logger(httpApp{}).Named("log.access")}
}

// logged is what a stream's line needs beside what is known of the stream.
type logged struct {
	began  time.Time
	uri    string // before handlers changed it
	user   string
	names  []string // of loggers; nil: those of the server's configuration
	level  zapcore.Level
	header http.Header // of the answer, once that is written
}

// begin takes the line of a request over from Caddy. It returns nil where
// Caddy would write none.
func (a *accessLog) begin(r *http.Request) *logged {
	if a == nil || !a.wanted(r.Host) {
		return nil
	}
	ctx := r.Context()
	if skip, _ := caddyhttp.GetVar(ctx, caddyhttp.LogSkipVar).(bool); skip {
		return nil
	}
	l := &logged{began: time.Now(), uri: r.RequestURI, level: zapcore.InfoLevel}
	if original, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		l.uri = original.RequestURI
	}
	if names, ok := caddyhttp.GetVar(ctx, caddyhttp.AccessLoggerNameVarKey).([]any); ok {
		l.names = []string{}
		for _, name := range names {
			if name, ok := name.(string); ok {
				l.names = append(l.names, name)
			}
		}
	}
	if name, ok := caddyhttp.GetVar(ctx, caddyhttp.LogLevelVar).(string); ok {
		if level, err := zapcore.ParseLevel(name); err == nil && level >= zapcore.DebugLevel && level <= zapcore.ErrorLevel {
			l.level = level
		}
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		l.user, _ = repl.GetString("http.auth.user.id")
	}
	caddyhttp.SetVar(ctx, caddyhttp.LogSkipVar, true)
	return l
}

// leave gives the line of a request back to Caddy.
func (l *logged) leave(r *http.Request) {
	if l != nil {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, false)
	}
}

// over is w, whose header is taken down as soon as it is written: it is the
// server's and the handlers', who may go on with it while the stream ends.
func (l *logged) over(w http.ResponseWriter) http.ResponseWriter {
	if l == nil {
		return w
	}
	return &headerTaker{w, l}
}

type headerTaker struct {
	http.ResponseWriter
	logged *logged
}

// Unwrap is for http.ResponseController.
func (t *headerTaker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (t *headerTaker) WriteHeader(status int) {
	t.ResponseWriter.WriteHeader(status)
	t.logged.header = t.Header().Clone()
	t.logged.header.Del("Transfer-Encoding") // it is not sent: see Session.Detach
}

// wanted reports whether requests for a host are logged.
func (a *accessLog) wanted(host string) bool {
	host = withoutPort(host)
	matches := func(pattern string) bool { return certmagic.MatchWildcard(host, pattern) }
	logs := a.server.Logs
	for name := range logs.LoggerNames {
		if matches(name) {
			return true
		}
	}
	return !slices.ContainsFunc(logs.SkipHosts, matches) && !logs.SkipUnmappedHosts
}

// names are those of a host's loggers; an empty one is the server's own.
func (a *accessLog) names(host string) []string {
	logs := a.server.Logs
	host = strings.ToLower(withoutPort(host))
	if names, ok := logs.LoggerNames[host]; ok {
		return names
	}
	labels := strings.Split(host, ".")
	for i := range labels {
		if labels[i] == "" {
			continue
		}
		labels[i] = "*"
		if names, ok := logs.LoggerNames[strings.Join(labels, ".")]; ok {
			return names
		}
	}
	return []string{logs.DefaultLoggerName}
}

func withoutPort(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// write writes the line of a stream that has ended.
func (a *accessLog) write(l *live) {
	if a == nil {
		return // the configuration that it was handed to has no access log
	}
	r, err := l.asked.request(a.server)
	if err != nil {
		return
	}
	r.RequestURI = l.logged.uri
	names := l.logged.names
	if names == nil {
		names = a.names(r.Host)
	}
	credentials := a.server.Logs.ShouldLogCredentials
	for _, name := range names {
		logger := a.logger
		if name != "" {
			logger = logger.Named(name)
		}
		if c := logger.Check(l.logged.level, "handled request"); c != nil {
			c.Write(append([]zap.Field{
				zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r, ShouldLogCredentials: credentials}),
				zap.Int("bytes_read", 0),
				zap.String("user_id", l.logged.user),
				zap.Duration("duration", time.Since(l.logged.began)),
				zap.Int64("size", l.session.Size()),
				zap.Int("status", http.StatusOK),
				zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: l.logged.header, ShouldLogCredentials: credentials}),
			}, l.ending()...)...)
		}
	}
}
