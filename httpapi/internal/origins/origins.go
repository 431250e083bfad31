// Package origins decides what pages of other origins may do: which may call (CORS),
// and which may not with what their visitor's browser sends by itself (CSRF).
package origins

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/auth"
)

// Policy has the other origins that may call. It is immutable, and safe for concurrent
// use; nil allows the same origin only.
type Policy struct {
	origins  map[string]bool
	patterns []originPattern // without credentials
	any      bool            // without credentials
	null     bool            // the origin of pages without one, without credentials

	// protection refuses writes from other origins, which a browser sends
	// before it asks whether it may read the answer.
	protection *http.CrossOriginProtection
}

const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsAllow   = "Authorization, Cache-Control, Content-Type, Last-Event-ID, Idempotency-Key, If-Match, If-None-Match"
	corsExpose  = "Accept-Patch, Allow, ETag, Evstream-Stale, Idempotency-Replayed, Retry-After, WWW-Authenticate"
	corsMaxAge  = "7200" // seconds; browsers go no further
)

// sameOrigin is the protection of a nil Policy.
var sameOrigin = http.NewCrossOriginProtection()

// New parses origins: "https://example.com", "https://*.example.com" for all
// its subdomains, "http://localhost:*" for any port of this machine, "null" for pages
// without an origin, or "*" for any origin. Without any, only the same origin may call.
func New(origins []string) (*Policy, error) {
	c := &Policy{origins: map[string]bool{}, protection: http.NewCrossOriginProtection()}
	for _, s := range origins {
		if s == "*" {
			c.any = true
			continue
		}
		if s == "null" {
			c.null = true
			continue
		}
		if strings.Contains(s, "*") {
			p, err := parseOriginPattern(s)
			if err != nil {
				return nil, err
			}
			c.patterns = append(c.patterns, p)
			continue
		}
		origin, err := parseOrigin(s)
		if err != nil {
			return nil, err
		}
		c.origins[origin] = true
		if err := c.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("cors: %w", err)
		}
	}
	return c, nil
}

// originPattern is an origin whose host begins with "*.", which stands for one
// or more labels; or one of this machine, with any port.
type originPattern struct {
	scheme string // with "://"
	suffix string // of the host, from the dot on, and the port
	local  string // a host whose port is any; then there is no suffix
}

func (p originPattern) match(origin string) bool {
	host, ok := strings.CutPrefix(origin, p.scheme)
	if !ok {
		return false
	}
	if p.local != "" {
		port, ok := strings.CutPrefix(host, p.local)
		number, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
		return ok && (port == "" || port == ":"+strconv.FormatUint(number, 10) && err == nil)
	}
	labels, ok := strings.CutSuffix(host, p.suffix)
	if !ok || labels == "" {
		return false
	}
	for i := range len(labels) {
		c := labels[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return labels[0] != '.' && labels[len(labels)-1] != '.' && !strings.Contains(labels, "..")
}

// parseOriginPattern parses an origin whose first label is "*". After it there must
// be two labels at least: a pattern for all of ".com" is a mistake.
func parseOriginPattern(s string) (originPattern, error) {
	fail := func() (originPattern, error) {
		return originPattern{}, fmt.Errorf("cors: %q is no pattern of origins: write one such as https://*.example.com, with a * for the first labels of the host and nothing else, http://localhost:* for any port of this machine, or * for any", s)
	}
	if p, ok := parseLocalPattern(s); ok {
		return p, nil
	}
	scheme, host, ok := strings.Cut(s, "://*.")
	if !ok {
		return fail()
	}
	origin, err := parseOrigin(scheme + "://" + host)
	if err != nil || !strings.Contains(strings.Trim(host, "."), ".") {
		return fail()
	}
	scheme, host, _ = strings.Cut(origin, "://")
	return originPattern{scheme: scheme + "://", suffix: "." + host}, nil
}

// parseLocalPattern parses an origin of this machine with any port. Of other hosts a
// port is part of whom one trusts.
func parseLocalPattern(s string) (p originPattern, ok bool) {
	scheme, host, _ := strings.Cut(strings.ToLower(s), "://")
	host, ok = strings.CutSuffix(host, ":*")
	ok = ok && (scheme == "http" || scheme == "https") && (host == "localhost" || host == "127.0.0.1" || host == "[::1]")
	return originPattern{scheme: scheme + "://", local: host}, ok
}

// parseOrigin returns an origin as browsers send it: in lower case, and without the
// default port of its scheme.
func parseOrigin(s string) (string, error) {
	u, err := url.Parse(strings.ToLower(s))
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" ||
		u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Host, "*") {
		return "", fmt.Errorf("cors: %q is not an origin: write one such as https://example.com, without a path, https://*.example.com, or * for any", s)
	}
	return u.Scheme + "://" + auth.WithoutDefaultPort(u.Host, u.Scheme), nil
}

// Configured reports whether any other origin may call.
func (c *Policy) Configured() bool {
	return c != nil && (c.any || c.null || len(c.origins) > 0 || len(c.patterns) > 0)
}

// open reports whether an origin may call without credentials.
func (c *Policy) open(origin string) bool {
	if c == nil || origin == "" {
		return false
	}
	if c.any || c.null && origin == "null" {
		return true
	}
	for _, p := range c.patterns {
		if p.match(origin) {
			return true
		}
	}
	return false
}

// Headers sets the CORS headers of any answer, also of errors. It reports whether
// the request's origin may call.
func (c *Policy) Headers(h http.Header, r *http.Request) bool {
	if !c.Configured() {
		return false
	}
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return false
	case c.origins[origin]:
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case c.any:
		h.Set("Access-Control-Allow-Origin", "*")
	case c.open(origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return false
	}
	h.Set("Access-Control-Expose-Headers", corsExpose)
	return true
}

// Preflight adds the CORS headers of the answer to a preflight.
func (c *Policy) Preflight(h http.Header) {
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsAllow)
	h.Set("Access-Control-Max-Age", corsMaxAge)
}
