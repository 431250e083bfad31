package evstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// outgoing is a URL that the hub itself asks: for keys, or who somebody is. A
// name may lead anywhere by what DNS says, so what is connected to is checked
// when it is: an address that is not public has to be allowed, or be written
// in the configuration as such.
type outgoing struct {
	url    *url.URL
	client *http.Client
	idle   func() // closes what is kept open
}

// guard decides which addresses may be connected to.
type guard struct {
	host    string // of the URL
	private bool   // private addresses are allowed
}

// errAddress is the error of an address that is not asked.
var errAddress = errors.New("the address is not allowed")

// newOutgoing reads a URL. What Caddy itself listens on, other than for its
// sites, is never asked: its admin endpoint, above all.
func newOutgoing(raw string, allowPrivate bool, timeout time.Duration) (*outgoing, error) {
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
	case u.Scheme == "http" && !allowPrivate && !literal(u.Hostname()):
		return nil, fmt.Errorf("%q must begin with https://; only within a private network, with allow_private, is http:// allowed", raw)
	}
	g := &guard{host: u.Hostname(), private: allowPrivate}
	dialer := &net.Dialer{Timeout: timeout, Control: g.check}
	transport := &http.Transport{
		DialContext:            dialer.DialContext, // and no proxy, which would connect unchecked
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    timeout,
		ResponseHeaderTimeout:  timeout,
		IdleConnTimeout:        30 * time.Second,
		MaxConnsPerHost:        64,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // what is bounded is what is read
	}
	return &outgoing{
		url: u,
		client: &http.Client{
			Transport: transport,
			Timeout:   timeout,
			// Where an answer sends to is not what was configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		idle: transport.CloseIdleConnections,
	}, nil
}

// literal reports whether a host is written as an address of this host, or of
// a network that is not public.
func literal(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && !public(address)
}

// loopback reports whether a host is written as this host.
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// check implements the Control of a net.Dialer: it sees the address that a
// name has led to, at the moment of connecting.
func (g *guard) check(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s %s", errAddress, network, address)
	}
	ip := to.Addr().Unmap()
	if !public(ip) && !g.allows(ip) {
		return fmt.Errorf("%w: %s has the address %s, which is not public; allow_private would allow private ones", errAddress, g.host, ip)
	}
	if ownPort(to) {
		return fmt.Errorf("%w: %s is Caddy's own, and none of its sites'", errAddress, to)
	}
	return nil
}

// allows reports whether an address that is not public may be asked.
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

// ownPort reports whether Caddy listens there, but not as a site: that is the
// admin endpoint, or another app's.
func ownPort(to netip.AddrPort) bool {
	port := strconv.Itoa(int(to.Port()))
	listens := slices.ContainsFunc([]string{to.Addr().Unmap().String(), "localhost", "", "0.0.0.0", "::", "127.0.0.1", "::1"}, func(host string) bool {
		at := net.JoinHostPort(host, port)
		return slices.ContainsFunc([]string{"tcp", "tcp4", "tcp6"}, func(network string) bool { return caddy.ListenerUsage(network, at) > 0 })
	})
	return listens && !slices.ContainsFunc(siteAddresses(), func(address string) bool {
		parsed, err := caddy.ParseNetworkAddress(address)
		return err == nil && parsed.StartPort <= uint(to.Port()) && uint(to.Port()) <= parsed.EndPort
	})
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // carriers', and clouds'

// notPublic has the networks beside those that netip knows, which lead to
// this host, to its network, or to another form of such an address.
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

// siteAddresses are those that the sites of the running configuration listen
// on. While the first one starts there are none yet.
func siteAddresses() []string {
	if app := running.get(); app != nil {
		if sites := app.sites.Load(); sites != nil {
			return *sites
		}
	}
	return nil
}

// request begins a request that the hub itself makes.
func (o *outgoing) request(ctx context.Context) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, o.url.String(), nil)
}
