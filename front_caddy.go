package evstream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/h2front/hook"
	"github.com/evstream/caddy-evstream/stream"
)

// frontWorks reports whether streams over HTTP/2 can be taken from the servers of this program. It
// is tried once, and said if it fails: it depends on the versions that the program was built with.
var frontWorks = sync.OnceValue(func() bool {
	if runtime.GOOS != "linux" { // nor are others taken there
		return false
	}
	err := hook.SelfTest()
	if err != nil {
		logger.Warn("streams over HTTP/2 are left with the server, which takes more memory and time: they cannot be taken from it in this build of Caddy", slog.Any("error", err))
	}
	return err == nil
})

// frontHTTP2 has a server serve HTTP/2 over TLS so that streams can be taken from it. It is
// called while the server is being provisioned.
func (a *App) frontHTTP2(server *caddyhttp.Server) {
	if a.fronted[server] || !frontWorks() {
		return
	}
	if a.fronted == nil {
		a.fronted = make(map[*caddyhttp.Server]bool)
	}
	a.fronted[server] = true
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
