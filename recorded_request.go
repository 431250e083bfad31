package evstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// recordedRequest is a copy of the request that began a stream, for the rules of
// a later configuration and for the access log. There are many, so it is small.
// It does not hold the context, which belongs to a configuration.
type recordedRequest struct {
	head   string // as HTTP/1.1 writes it
	remote string
	tls    *tls.ConnectionState
	major  uint8
	moved  bool // a handler in front has changed the path
}

// heads pools the buffers that requests are recorded in.
var heads = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// recordRequest records a request, after the handlers in front have changed it.
func recordRequest(r *http.Request) recordedRequest {
	head := heads.Get().(*bytes.Buffer)
	defer heads.Put(head)
	head.Reset()
	fmt.Fprintf(head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
	_ = r.Header.Write(head) // a Buffer returns no error
	head.WriteString("\r\n")
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	return recordedRequest{
		head: head.String(), remote: r.RemoteAddr, major: uint8(r.ProtoMajor), tls: r.TLS,
		moved: ok && original.URL != nil && original.URL.Path != r.URL.Path,
	}
}

// request returns the request, prepared for the matchers and placeholders of a
// server, if that is not nil. What handlers in front added to it, such as the
// user, is lost.
func (q recordedRequest) request(server *caddyhttp.Server) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(q.head)))
	if err != nil {
		return nil, err
	}
	r.RemoteAddr, r.TLS = q.remote, q.tls
	if q.major > 1 {
		r.Proto, r.ProtoMajor, r.ProtoMinor = fmt.Sprintf("HTTP/%d.0", q.major), int(q.major), 0
	}
	if server == nil {
		return r, nil
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, server), nil
}
