package evstream

import (
	"context"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// connectionKey is where the context of a request has its connection.
type connectionKey struct{}

// exposeConnections has a server tell handlers which connection a request came
// over. It is called while the server is being provisioned.
func (a *App) exposeConnections(server *caddyhttp.Server) {
	if a.exposed[server] {
		return
	}
	if a.exposed == nil {
		a.exposed = make(map[*caddyhttp.Server]bool)
	}
	a.exposed[server] = true
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	})
}

// connectionOf is the connection that a request came over, as its server sees
// it, or nil.
func connectionOf(r *http.Request) net.Conn {
	c, _ := r.Context().Value(connectionKey{}).(net.Conn)
	return c
}
