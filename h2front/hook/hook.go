// Package hook has an http.Server serve HTTP/2 over TLS with a h2front.Conn in between.
package hook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/evstream/caddy-evstream/h2front"
)

// Install has server serve the HTTP/2 connections over TLS that it accepts from now on
// with a h2front.Conn in between. The context of their requests is what connContext
// makes of the connection's and of its Conn. Install reports false, and has changed
// nothing, if the server does not do HTTP/2 over TLS, or not in a way that can be replaced.
//
// It must be called once for a server: before the server serves, if it was prepared by
// http2.ConfigureServer; or else in its ConnContext, for the first connection of all, and
// every other call of ConnContext must wait for it. The server has read its
// configuration by then, and each connection is served after its ConnContext.
func Install(server *http.Server, connContext func(context.Context, net.Conn) context.Context) bool {
	if server.TLSNextProto[http2.NextProtoTLS] == nil {
		return false
	}
	// The HTTP/2 server learns of a shutdown from the http.Server that it was configured
	// for. That is one of its own: configuring server again would change its TLS.
	shutdown := new(http.Server)
	h2 := new(http2.Server)
	if err := http2.ConfigureServer(shutdown, h2); err != nil {
		return false
	}
	server.RegisterOnShutdown(func() { _ = shutdown.Shutdown(context.Background()) })
	tell := server.ConnState
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if front := h2front.Of(conn); front != nil {
			front.SetIdle(state == http.StateIdle)
			conn = front.NetConn()
		}
		if tell != nil {
			tell(conn, state)
		}
	}
	server.TLSNextProto[http2.NextProtoTLS] = func(hs *http.Server, conn *tls.Conn, handler http.Handler) {
		front := h2front.New(conn, idleTimeout(hs))
		// The context of the connection, as http2.ConfigureServer finds it.
		ctx := context.Background()
		if base, ok := handler.(interface{ BaseContext() context.Context }); ok {
			ctx = base.BaseContext()
		}
		h2.ServeConn(front.ForServer(), &http2.ServeConnOpts{
			Context: connContext(ctx, front), BaseConfig: hs, Handler: handler,
		})
		front.Linger()
	}
	return true
}

// idleTimeout is that of http2.ConfigureServer.
func idleTimeout(server *http.Server) time.Duration {
	if server.IdleTimeout != 0 {
		return server.IdleTimeout
	}
	return server.ReadTimeout
}
