package evstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// asked is the request that began a stream, for the questions that are asked
// again as long as the stream lasts: by which rules it is allowed, and whether
// it is. It holds no more than it must, because there are many: neither the
// server's buffers, nor the context, which belongs to a configuration that may
// be replaced.
type asked struct {
	head   []byte // as HTTP/1.1 writes it
	remote string
	major  int
	tls    *tls.ConnectionState
}

// heads has the memory that requests are taken down in.
var heads = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// remember takes down a request, after the handlers in front have changed it.
func remember(r *http.Request) asked {
	head := heads.Get().(*bytes.Buffer)
	defer heads.Put(head)
	head.Reset()
	fmt.Fprintf(head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
	_ = r.Header.Write(head) // a Buffer takes it
	head.WriteString("\r\n")
	return asked{head: bytes.Clone(head.Bytes()), remote: r.RemoteAddr, major: r.ProtoMajor, tls: r.TLS}
}

// request is the request once more, prepared for the matchers and placeholders
// of a server; without one it is bare. What handlers in front found out about
// it, such as who the user is, is not known any more.
func (a asked) request(server *caddyhttp.Server) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(a.head)))
	if err != nil {
		return nil, err
	}
	r.RemoteAddr, r.TLS = a.remote, a.tls
	if a.major > 1 {
		r.Proto, r.ProtoMajor, r.ProtoMinor = fmt.Sprintf("HTTP/%d.0", a.major), a.major, 0
	}
	if server == nil {
		return r, nil
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, server), nil
}
