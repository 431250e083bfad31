package evstream

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// cors answers browsers that call from another origin. It does not change
// once it is made; a nil cors knows the same origin only.
type cors struct {
	origins map[string]bool
	any     bool // without credentials

	// protection refuses writes from other origins, which a browser sends
	// before it asks whether it may read the answer.
	protection *http.CrossOriginProtection
}

const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsAllow   = "Authorization, Cache-Control, Content-Type, Last-Event-ID, Idempotency-Key, If-Match, If-None-Match"
	corsExpose  = "Accept-Patch, Allow, ETag, Idempotency-Replayed, Retry-After, WWW-Authenticate"
	corsMaxAge  = "7200" // seconds; browsers go no further
)

// sameOrigin protects where no origin is configured.
var sameOrigin = http.NewCrossOriginProtection()

// newCORS reads the origins that may call: "https://example.com", or "*" for
// any. Without one it returns a cors that knows the same origin only.
func newCORS(origins []string) (*cors, error) {
	c := &cors{origins: map[string]bool{}, protection: http.NewCrossOriginProtection()}
	for _, s := range origins {
		if s == "*" {
			c.any = true
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

// parseOrigin spells an origin as browsers do: in lower case, and without the
// port that the scheme implies.
func parseOrigin(s string) (string, error) {
	u, err := url.Parse(strings.ToLower(s))
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" ||
		u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Host, "*") {
		return "", fmt.Errorf("cors: %q is not an origin: write one such as https://example.com, without a path, or * for any", s)
	}
	host := u.Host
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, nil
}

// configured reports whether any other origin may call.
func (c *cors) configured() bool { return c != nil && (c.any || len(c.origins) > 0) }

// headers sets what every answer carries, errors too. It reports whether the
// request's origin may call.
func (c *cors) headers(h http.Header, r *http.Request) bool {
	if !c.configured() {
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
	default:
		return false
	}
	h.Set("Access-Control-Expose-Headers", corsExpose)
	return true
}

// preflight adds what only an OPTIONS request is told.
func (c *cors) preflight(h http.Header) {
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsAllow)
	h.Set("Access-Control-Max-Age", corsMaxAge)
}

// check refuses a write that a page of a foreign origin made. Where any origin
// may write, it may not do so with what a browser sends along by itself.
func (c *cors) check(r *http.Request) error {
	protection := sameOrigin
	if c != nil {
		protection = c.protection
	}
	switch {
	case protection.Check(r) == nil, c != nil && c.any && !ambient(r):
		return nil
	case c != nil && c.any:
		return crossOrigin.because("a page of another origin may not write here with cookies or a browser's own credentials; the origins that may are named by cors in the configuration")
	}
	return crossOrigin.because("a page of another origin may not write here; the origins that may are named by cors in the configuration")
}

// ambient reports whether r has credentials that a browser adds unasked. A
// bearer is none: a script must know it.
func ambient(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return r.Header["Cookie"] != nil || scheme != "" && !strings.EqualFold(scheme, "Bearer")
}
