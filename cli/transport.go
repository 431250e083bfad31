package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// CACertUsage is the help of the flag --cacert of all commands.
const CACertUsage = "A `file` of certificates in PEM to trust, in place of the system's"

// Roots reads the certificates of --cacert; without a file it returns nil, which is those
// of the system.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the caller names it
	if err != nil {
		return nil, fmt.Errorf("--cacert: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--cacert: %s has no certificate in PEM", file)
	}
	return roots, nil
}

// unixSocket is the path of the socket that a network address of Caddy names, such as
// unix//run/caddy.sock or, with permissions, unix//run/caddy.sock|0220.
func unixSocket(address string) (path string, ok bool) {
	path, ok = strings.CutPrefix(address, "unix/")
	path, _, _ = strings.Cut(path, "|")
	return path, ok && path != ""
}

// newTransport makes the connections to a hub, nil for those that the client makes by
// itself: through a socket, or only to who has a certificate of some roots.
func newTransport(socket string, roots *x509.CertPool) *http.Transport {
	if socket == "" && roots == nil {
		return nil
	}
	t := &http.Transport{}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		t = standard.Clone()
	}
	if roots != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	return t
}
