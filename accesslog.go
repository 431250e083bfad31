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

	"github.com/evstream/caddy-evstream/stream"
)

// accessLog writes the access log's line of a detached stream when the stream
// ends. Caddy would write it when the handler returns, which is when the stream
// begins. The line has the logger, message and fields of Caddy's own lines.
type accessLog struct {
	server *caddyhttp.Server
	logger *zap.Logger
}

// httpApp stands for Caddy's http app, whose logger access logs have.
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

// logLine is what a line needs of the request that began the stream.
type logLine struct {
	request recordedRequest
	began   time.Time
	uri     string // before handlers changed it
	user    string
	names   []string // of loggers; nil for those of the server's configuration
	level   zapcore.Level
	header  http.Header // of the response, set when it is written
}

// begin stops Caddy from writing the line of a request, so that write can write
// it later. It returns nil if Caddy would write none.
func (a *accessLog) begin(r *http.Request, record recordedRequest) *logLine {
	if a == nil || !a.wanted(r.Host) {
		return nil
	}
	ctx := r.Context()
	if skip, _ := caddyhttp.GetVar(ctx, caddyhttp.LogSkipVar).(bool); skip {
		return nil
	}
	l := &logLine{request: record, began: time.Now(), uri: r.RequestURI, level: zapcore.InfoLevel}
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

// Cancel implements httpapi.StreamLog.
func (*logLine) Cancel(r *http.Request) { caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, false) }

// Wrap implements httpapi.StreamLog. The header is copied when it is written,
// because the server and other handlers may change it while the stream ends.
func (l *logLine) Wrap(w http.ResponseWriter) http.ResponseWriter { return &headerRecorder{w, l} }

type headerRecorder struct {
	http.ResponseWriter
	line *logLine
}

// Unwrap is for http.ResponseController.
func (h *headerRecorder) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (h *headerRecorder) WriteHeader(status int) {
	h.ResponseWriter.WriteHeader(status)
	h.line.header = h.Header().Clone()
	h.line.header.Del("Transfer-Encoding") // not sent: see Session.Detach
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

// names returns the names of a host's loggers; an empty name is the access
// log itself.
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
func (a *accessLog) write(l *logLine, s *stream.Session) {
	if a == nil {
		return // the configuration that took the stream over has no access log
	}
	r, err := l.request.request(a.server)
	if err != nil {
		return
	}
	r.RequestURI = l.uri
	names := l.names
	if names == nil {
		names = a.names(r.Host)
	}
	credentials := a.server.Logs.ShouldLogCredentials
	for _, name := range names {
		logger := a.logger
		if name != "" {
			logger = logger.Named(name)
		}
		if c := logger.Check(l.level, "handled request"); c != nil {
			c.Write(append([]zap.Field{
				zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r, ShouldLogCredentials: credentials}),
				zap.Int("bytes_read", 0),
				zap.String("user_id", l.user),
				zap.Duration("duration", time.Since(l.began)),
				zap.Int64("size", s.Size()),
				zap.Int("status", http.StatusOK),
				zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: l.header, ShouldLogCredentials: credentials}),
			}, streamFields(s)...)...)
		}
	}
}
