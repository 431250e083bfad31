package evstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/hub"
)

// overTLS is a Caddyfile of a site with a certificate of Caddy's own. More is for the site.
func overTLS(port, global, block string, more ...string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 30s
%s
	servers {
		protocols h1 h2
	}
}
https://localhost:%s {
	tls internal
	bind 127.0.0.1
	evstream /live/* {
%s
	}
	respond /plain "plain"
%s
}
`, global, port, block, strings.Join(more, "\n"))
}

// useTLS has the tests' client speak HTTP/2 over TLS, and returns how many connections it
// has opened.
func useTLS(t *testing.T) (connections func() int) {
	t.Helper()
	dials := make(chan struct{}, 1000)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials <- struct{}{}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	useTransport(t, transport)
	return func() int { return len(dials) }
}

// useTransport has the tests' client use a transport, until the test ends.
func useTransport(t *testing.T, transport http.RoundTripper) {
	t.Helper()
	old := client
	client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		client = old
	})
}

// awaitTLS waits until the site has its certificate, and answers over a version of HTTP.
func awaitTLS(t *testing.T, url string, version int) {
	t.Helper()
	eventually(t, "the certificate", func() bool {
		resp, err := client.Get(url + "?info")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.ProtoMajor == version
	})
}

// servedOver is how many streams are served over a version of HTTP, by the default broker.
func servedOver(t *testing.T, version uint8, detached bool) int {
	t.Helper()
	return theHub(t, "default").Stats().Serving[hub.Serving{Protocol: version, Detached: detached}]
}
