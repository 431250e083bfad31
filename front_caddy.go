package evstream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/h2front/hook"
	"github.com/evstream/caddy-evstream/stream"
)

// frontWorks tells why streams over HTTP/2 cannot be taken from the servers of this program, or
// nil. It is tried once: it depends on the versions that the program was built with.
var frontWorks = sync.OnceValue(hook.SelfTest)

// frontHTTP2 has a server serve HTTP/2 over TLS so that streams can be taken from it. It is
// called while the server is being provisioned.
func (a *App) frontHTTP2(server *caddyhttp.Server) {
	if a.fronted[server] {
		return
	}
	if a.fronted == nil {
		a.fronted = make(map[*caddyhttp.Server]bool)
	}
	a.fronted[server] = true
	if err := frontWorks(); err != nil {
		logger.Warn("delivery detached: streams over HTTP/2 are left with the server, because it cannot be done with this build of Caddy", slog.Any("error", err))
		return
	}
	// Caddy configures its http.Server when it starts it, and shows it to nobody before the
	// first connection.
	var once sync.Once
	server.RegisterConnContext(func(ctx context.Context, _ net.Conn) context.Context {
		once.Do(func() {
			if s, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
				hook.Install(s, stream.ConnContext) // false if the server does no HTTP/2
			}
		})
		return ctx
	})
}
