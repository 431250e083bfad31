package stream

import (
	"context"
	"net"
	"net/http"
)

// connKey is the context key of the connection that a request came over.
type connKey struct{}

// ConnContext makes the connection of each request known to ConnOf. It is to be
// the ConnContext of an http.Server, or to be called by the one there is:
//
//	server := &http.Server{Handler: mux, ConnContext: stream.ConnContext}
//
// It is safe for concurrent use.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection that r came over, for Session.Detach and
// Session.Begin, or nil if the server of r does not use ConnContext. The server
// still owns the connection: the caller must not read, write or close it. It is
// safe for concurrent use.
func ConnOf(r *http.Request) net.Conn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	return c
}
