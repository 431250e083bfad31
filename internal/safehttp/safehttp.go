// Package safehttp makes requests to configured URLs. It connects only to allowed
// addresses.
package safehttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Client makes GET requests to one URL. DNS may resolve a name to any address,
// so an address is checked when it is connected to: one that is not public has
// to be allowed, or be written in the URL. It is safe for concurrent use.
type Client struct {
	// URL is where requests go. It must not be modified.
	URL *url.URL

	client    *http.Client
	transport *http.Transport
}

// Options bound what a Client connects to.
type Options struct {
	// AllowPrivate allows private addresses, also where the URL has a name, and
	// http:// beside https://.
	AllowPrivate bool
	// Timeout bounds a request, with its answer; 0 does not.
	Timeout time.Duration
	// Forbid returns an error for an otherwise allowed address that must not be
	// connected to; nil forbids none. It is called for each connection.
	Forbid func(netip.AddrPort) error
}

// guard decides which addresses may be connected to.
type guard struct {
	host    string // of the URL
	private bool   // private addresses are allowed
	forbid  func(netip.AddrPort) error
}

// ErrAddress is the error of an address that is not allowed.
var ErrAddress = errors.New("the address is not allowed")

// New returns a Client for a URL, or an error if the URL is not allowed. It does
// not connect.
func New(raw string, o Options) (*Client, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is not a URL such as https://example.com/path", raw)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q must begin with https://", raw)
	case u.User != nil:
		return nil, errors.New("the URL must not have a user or a password")
	case u.Fragment != "":
		return nil, fmt.Errorf("%q must not have a fragment", raw)
	case u.Scheme == "http" && !o.AllowPrivate && !IsLocal(u.Hostname()):
		return nil, fmt.Errorf("%q must begin with https://; only within a private network, with allow_private, is http:// allowed", raw)
	}
	g := &guard{host: u.Hostname(), private: o.AllowPrivate, forbid: o.Forbid}
	dialer := &net.Dialer{Timeout: o.Timeout, Control: g.check}
	transport := &http.Transport{
		DialContext:            dialer.DialContext, // no proxy: it would connect unchecked
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    o.Timeout,
		ResponseHeaderTimeout:  o.Timeout,
		IdleConnTimeout:        30 * time.Second,
		MaxConnsPerHost:        64,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // so that bounds on the size hold for what is read
	}
	return &Client{
		URL: u,
		client: &http.Client{
			Transport: transport,
			Timeout:   o.Timeout,
			// A redirect would lead to a URL that is not the configured one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		transport: transport,
	}, nil
}

// Request returns a GET request for the URL.
func (c *Client) Request(ctx context.Context) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, c.URL.String(), nil)
}

// Do sends a request that Request has returned.
func (c *Client) Do(r *http.Request) (*http.Response, error) { return c.client.Do(r) }

// CloseIdle closes idle connections.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// IsLocal reports whether host is "localhost" or an address that is not public. It
// does not look up names.
func IsLocal(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && !public(address)
}

// IsLoopback reports whether host is "localhost" or a loopback address.
func IsLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// check is the Control of a net.Dialer: it is called with the address that a
// name was resolved to, before connecting.
func (g *guard) check(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s %s", ErrAddress, network, address)
	}
	ip := to.Addr().Unmap()
	if !public(ip) && !g.allows(ip) {
		return fmt.Errorf("%w: %s has the address %s, which is not public; allow_private would allow private ones", ErrAddress, g.host, ip)
	}
	if g.forbid == nil {
		return nil
	}
	if err := g.forbid(to); err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return nil
}

// allows reports whether an address that is not public may be connected to.
func (g *guard) allows(ip netip.Addr) bool {
	written, err := netip.ParseAddr(g.host)
	switch {
	case err == nil && written.Unmap() == ip:
		return true
	case strings.EqualFold(g.host, "localhost") && ip.IsLoopback():
		return true
	}
	return g.private && (ip.IsPrivate() || ip.IsLoopback() || sharedSpace.Contains(ip))
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: carriers, and clouds

// notPublic lists the networks, beside those that netip knows, that lead to
// this host or its network, or that embed such an address.
var notPublic = []netip.Prefix{
	sharedSpace,
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("::/96"),
}

// public reports whether an address is one of the public internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && !ip.IsPrivate() &&
		!slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) })
}
