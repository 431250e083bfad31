package auth

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// sameOriginAs reports whether r comes from a page of the origin that was given a
// ticket; "" is no page, but a program. A browser sends Origin where that is not the
// stream's own. Where it is, all but old browsers send Sec-Fetch-Site: same-origin.
func sameOriginAs(origin string, r *http.Request) bool {
	if named := r.Header["Origin"]; len(named) > 0 {
		return len(named) == 1 && origin != "" && strings.ToLower(named[0]) == origin
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" {
		return site == ""
	}
	u, err := url.Parse(origin)
	return err == nil && (site == "" || site == "same-origin") && strings.EqualFold(u.Host, WithoutDefaultPort(r.Host, u.Scheme))
}

// WithoutDefaultPort returns host without the port that is the default of a scheme,
// http or https.
func WithoutDefaultPort(host, scheme string) string {
	port := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return strings.TrimSuffix(host, port)
}

// hostname is the host of a request without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// localPort is the port that a request came to, or "" where that is not known.
func localPort(r *http.Request) string {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return ""
	}
	return port
}
