package evstream

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// caddyHost implements httpapi.Host for Caddy's server.
type caddyHost struct {
	log        *accessLog  // of detached streams; nil for none
	errorRoute atomic.Bool // the site has handle_errors: problems are returned to Caddy
	warnOnce   sync.Once   // of trusted_proxies without trusted_proxies_strict
}

// exposeConnections puts a server's connections into the contexts of their
// requests. It is called while the server is being provisioned.
func (a *App) exposeConnections(server *caddyhttp.Server) {
	if a.exposed[server] {
		return
	}
	if a.exposed == nil {
		a.exposed = make(map[*caddyhttp.Server]bool)
	}
	a.exposed[server] = true
	server.RegisterConnContext(stream.ConnContext)
}

// Conn implements httpapi.Host.
func (*caddyHost) Conn(r *http.Request) net.Conn { return stream.ConnOf(r) }

// ClientIP implements httpapi.Host: it returns {client_ip}, or else the address of the
// connection. It is a loopback address only if the client is on this host: without
// trusted_proxies_strict others can claim to be.
func (h *caddyHost) ClientIP(r *http.Request) string {
	headers := []string{"X-Forwarded-For"}
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.ClientIPHeaders != nil {
		headers = server.ClientIPHeaders
		if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted && server.TrustedProxiesStrict == 0 {
			h.warnOnce.Do(func() {
				logger.Warn("trusted_proxies is set and trusted_proxies_strict is not: a client can claim to have any address, so limits by address hold nobody back")
			})
		}
	}
	return hub.ClientAddress(clientIP(r), connectionIP(r), func(yield func(string) bool) {
		for _, name := range headers {
			for _, value := range r.Header.Values(name) {
				if !yield(value) {
					return
				}
			}
		}
	})
}

// clientIP is {client_ip}, or else the address of the connection.
func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	return connectionIP(r)
}

func connectionIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// outerUser returns the user that a handler in front has authenticated, or "".
func outerUser(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	user, _ := repl.GetString("http.auth.user.id")
	return user
}

// LiftTimeouts implements httpapi.Host: it lifts the hard deadlines that Caddy's
// server, or its timeouts handler, has set for the request.
func (*caddyHost) LiftTimeouts(r *http.Request, idle, writeTimeout time.Duration) (restore func()) {
	var restores []func()
	reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if reader != nil {
		reader.Deadline.HardDeadline = time.Time{}
		if idle > 0 {
			restores = append(restores, reader.Override(idle, 0))
		}
	}
	if writer != nil {
		writer.Deadline.HardDeadline = time.Time{}
		restores = append(restores, writer.Override(writeTimeout, 0, 0))
	}
	return func() {
		for _, f := range restores {
			f()
		}
	}
}

// DisableDeadlines implements httpapi.Host. Caddy's writer sets and clears a
// deadline for each write and each flush, which over HTTP/2 costs more than the
// write and the flush.
func (*caddyHost) DisableDeadlines(r *http.Request) {
	if _, writer := caddyhttp.IdleTimeoutsFromContext(r.Context()); writer != nil {
		writer.Ctrl = http.NewResponseController(noDeadlines{})
	}
}

// RestoreDeadlines implements httpapi.Host. Over HTTP/1 it also sets a deadline,
// for what the server itself writes after the handler has returned.
func (*caddyHost) RestoreDeadlines(r *http.Request, writeTimeout time.Duration) {
	_, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if writer == nil {
		return
	}
	writer.Ctrl = http.NewResponseController(writer.ResponseWriter)
	if r.ProtoMajor == 1 {
		_ = writer.Ctrl.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

// noDeadlines is a response that ignores deadlines.
type noDeadlines struct{ http.ResponseWriter }

// SetWriteDeadline is for http.ResponseController.
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

// Record implements httpapi.Host.
func (*caddyHost) Record(r *http.Request) any { return recordRequest(r) }

// BeginLog implements httpapi.Host.
func (h *caddyHost) BeginLog(r *http.Request, record any) httpapi.StreamLog {
	if l := h.log.begin(r, record.(recordedRequest)); l != nil {
		return l
	}
	return nil
}

// EndLog implements httpapi.Host.
func (h *caddyHost) EndLog(l httpapi.StreamLog, s *stream.Session) { h.log.write(l.(*logLine), s) }

// AddLog implements httpapi.Host.
func (*caddyHost) AddLog(r *http.Request, s *stream.Session) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		for _, field := range streamFields(s) {
			extra.Set(field)
		}
	}
}

// streamFields returns the access log's fields of a stream that has ended.
func streamFields(s *stream.Session) []zap.Field {
	return []zap.Field{
		zap.String("evstream_reason", string(s.Reason())),
		zap.Uint64("evstream_events", s.Delivered()),
	}
}

// Fail implements httpapi.Host: if the site has handle_errors, that answers the
// problem.
func (h *caddyHost) Fail(_ http.ResponseWriter, p *problem.Error) (bool, error) {
	if !h.errorRoute.Load() {
		return false, nil
	}
	return true, caddyhttp.Error(p.Status(), p)
}

// forbidOwnPort returns an error for an address that Caddy listens on, but no site
// does, such as the admin endpoint: the hub makes no requests to it.
func forbidOwnPort(to netip.AddrPort) error {
	port := strconv.Itoa(int(to.Port()))
	listens := slices.ContainsFunc([]string{to.Addr().Unmap().String(), "localhost", "", "0.0.0.0", "::", "127.0.0.1", "::1"}, func(host string) bool {
		at := net.JoinHostPort(host, port)
		return slices.ContainsFunc([]string{"tcp", "tcp4", "tcp6"}, func(network string) bool { return caddy.ListenerUsage(network, at) > 0 })
	})
	if listens && !slices.ContainsFunc(siteAddresses(), func(address string) bool {
		parsed, err := caddy.ParseNetworkAddress(address)
		return err == nil && parsed.StartPort <= uint(to.Port()) && uint(to.Port()) <= parsed.EndPort
	}) {
		return fmt.Errorf("%s is an address that Caddy itself listens on, and no site", to)
	}
	return nil
}

// siteAddresses returns the addresses that the sites of the running configuration
// listen on; none while the first configuration starts.
func siteAddresses() []string {
	if app := running.get(); app != nil {
		if sites := app.sites.Load(); sites != nil {
			return *sites
		}
	}
	return nil
}

// Interface guard
var _ httpapi.Host = (*caddyHost)(nil)
