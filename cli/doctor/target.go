package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxAnswer bounds what is read of an answer that is no stream.
const maxAnswer = 1 << 20

// parseURL reads the URL that is to be looked at.
func parseURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		return nil, fmt.Errorf("%q has no scheme: write the URL as a browser has it, such as https://example.com/live/", s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the scheme of the URL is http or https, not %s", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q has no host", s)
	case u.User != nil:
		return nil, errors.New("a URL with a user and a password is not supported: a token goes into EVSTREAM_TOKEN")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment (#…), which no server sees")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// parseOrigin reads the origin of a page.
func parseOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.TrimSuffix(u.String(), "/") != u.Scheme+"://"+u.Host || strings.HasSuffix(s, "/") {
		return fmt.Errorf("--origin is that of a page, such as https://app.example, without a path, not %q", s)
	}
	return nil
}

// peer is what TLS has shown of the server. Its methods are safe for concurrent use.
type peer struct {
	host  string         // for whom its certificate must be; TLS itself has no name of an IP address
	roots *x509.CertPool // nil: the system's

	mu     sync.Mutex
	known  bool // bad is decided, and the connections that follow must be as good
	state  tls.ConnectionState
	reason error // why its certificate is not trusted
}

// verify is called for each connection. The first may have any certificate: what is
// wrong with it is a finding, and no token is sent then.
func (p *peer) verify(cs tls.ConnectionState) error {
	err := p.check(cs)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		p.known, p.state, p.reason = true, cs, err
		return nil
	}
	if p.reason == nil {
		return err
	}
	return nil
}

func (p *peer) check(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("it has sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: p.host, Roots: p.roots, Intermediates: between,
	})
	return err
}

// seen is what the first connection has shown.
func (p *peer) seen() (cs tls.ConnectionState, ok bool, reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.known, p.reason
}

// newClient returns a client that follows no redirect and asks for no compression.
// fresh makes a connection for each request.
func newClient(p *peer, patience time.Duration, fresh bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: patience}).DialContext,
			TLSClientConfig: &tls.Config{
				InsecureSkipVerify: true, //nolint:gosec // peer.verify does it
				VerifyConnection:   p.verify,
			},
			TLSHandshakeTimeout: patience,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
			DisableKeepAlives:   fresh,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is one that is no stream.
type answer struct {
	*http.Response
	body  []byte
	begun time.Time // when it was asked for
	took  time.Duration
}

// ask sends a request and reads the answer, but for streams, within a time.
func ask(ctx context.Context, client *http.Client, req *http.Request, patience time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %s", patience))
	defer cancel()
	a := answer{begun: time.Now()}
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return a, err
	}
	defer resp.Body.Close()
	a.Response, a.took = resp, time.Since(a.begun)
	if req.Method != http.MethodHead && !streams(resp.Header) { // a stream would not end
		a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
	}
	return a, err
}

// local reports whether a host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
