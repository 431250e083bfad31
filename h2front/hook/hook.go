// Package hook has an http.Server serve HTTP/2 over TLS with a h2front.Conn in between.
package hook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/evstream/caddy-evstream/h2front"
)

const (
	// parkAfter is h2front.Options.ParkAfter: requests of a page come together, and a server
	// that goes and comes again costs about as much as a request.
	parkAfter = 100 * time.Millisecond
	// rest is h2front.Options.Rest: a page that makes a request every few seconds keeps its server.
	rest = 5 * time.Second
)

// leastHeader is the least http.Server.MaxHeaderBytes with which a server takes what it is told
// of the one before. With less, no connection is parked.
const leastHeader = 1 << 10

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
	return install(server, connContext, h2front.Options{ParkAfter: parkAfter, Rest: rest}, func() {})
}

// install is Install, with how connections are parked. gone is called whenever the HTTP/2 server of
// a connection has gone.
func install(server *http.Server, connContext func(context.Context, net.Conn) context.Context, parking h2front.Options, gone func()) bool {
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
	fronts := &fronts{all: make(map[*h2front.Conn]struct{})}
	server.RegisterOnShutdown(func() {
		fronts.leave()
		_ = shutdown.Shutdown(context.Background())
	})
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
		options := parking
		options.IdleTimeout = idleTimeout(hs)
		if hs.MaxHeaderBytes > 0 && hs.MaxHeaderBytes < leastHeader {
			options.ParkAfter = 0
		}
		front := h2front.New(conn, options)
		fronts.add(front)
		defer fronts.remove(front)
		// The context of the connection, as http2.ConfigureServer finds it.
		ctx := context.Background()
		if base, ok := handler.(interface{ BaseContext() context.Context }); ok {
			ctx = base.BaseContext()
		}
		counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			front.Handle(func() { handler.ServeHTTP(w, r) })
		})
		opts := &http2.ServeConnOpts{Context: connContext(ctx, front), BaseConfig: hs, Handler: counted}
		front.Serve(func(conn net.Conn) {
			h2.ServeConn(conn, opts)
			gone()
		})
	}
	return true
}

// fronts are the connections of a server. It is safe for concurrent use.
type fronts struct {
	mu  sync.Mutex // guards what follows
	all map[*h2front.Conn]struct{}
}

func (f *fronts) add(c *h2front.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[c] = struct{}{}
}

func (f *fronts) remove(c *h2front.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, c)
}

// leave has all connections that are parked, or are about to be, end with their last stream. One
// that comes later is not parked: its server leaves when the first of its streams ends.
func (f *fronts) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.all {
		c.Leave()
	}
}

// idleTimeout is that of http2.ConfigureServer.
func idleTimeout(server *http.Server) time.Duration {
	if server.IdleTimeout != 0 {
		return server.IdleTimeout
	}
	return server.ReadTimeout
}
