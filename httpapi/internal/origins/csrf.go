package origins

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/problem"
)

// Cross-site request forgery: a page of another origin can have its visitor's
// browser make requests here, and the browser adds cookies and other ambient
// credentials by itself. CORS does not help: it decides who may read the answer,
// when a simple request has been made already.

// CheckAmbient reports origins that cannot stand beside credentials that browsers
// send unasked: a page of any origin would call with its visitor's.
func CheckAmbient(origins []string, ambient bool) error {
	if ambient && slices.Contains(origins, "*") {
		return errors.New("cors * cannot stand beside cookie or caddy_auth, which a browser sends unasked: name the origins, such as https://app.example.com")
	}
	return nil
}

// Check refuses a write by a page of a foreign origin. An origin that may call
// without credentials may write, but not with ambient credentials.
func (c *Policy) Check(r *http.Request) error {
	protection := sameOrigin
	if c != nil {
		protection = c.protection
	}
	open := c.open(r.Header.Get("Origin"))
	switch {
	case protection.Check(r) == nil, open && !ambient(r):
		return nil
	case open:
		return problem.CrossOrigin.Because("a page of another origin may not write here with cookies or a browser's own credentials; the origins that may are named by cors in the configuration")
	}
	return problem.CrossOrigin.Because("a page of another origin may not write here; the origins that may are named by cors in the configuration")
}

// CheckWrite refuses a write with ambient credentials unless its Origin header is
// trusted. Every browser sends that header with a write.
func (c *Policy) CheckWrite(r *http.Request, who *access.Caller) error {
	if who.Ambient || who.Anonymous() && r.Header["Cookie"] != nil {
		if !c.trusts(r) {
			return problem.CrossOrigin.Because("with cookies or a browser's own credentials a write needs an Origin header, of this origin or of one that is named by cors in the configuration")
		}
	}
	return nil
}

// CheckRead refuses a read with ambient credentials by a page of a foreign origin:
// it could not read the answer, but it could hold streams open in the name of its
// visitor.
func (c *Policy) CheckRead(r *http.Request, who *access.Caller) error {
	if !who.Ambient && (!who.Anonymous() || !ambient(r)) {
		return nil
	}
	if !c.foreign(r) {
		return nil
	}
	return problem.CrossOrigin.Because("a page of another origin may not read here with cookies or a browser's own credentials; the origins that may are named by cors in the configuration")
}

// foreign reports whether a page makes the request that may not call with
// credentials. Without an Origin header Sec-Fetch-Site says so: a browser sends no
// Origin with what a page loads without CORS, such as an image.
func (c *Policy) foreign(r *http.Request) bool {
	if r.Header["Origin"] != nil {
		return !c.trusts(r)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return true
}

// Vouch returns who, but without the matched matchers if the page that made the
// request is not trusted. What matchers look at is ambient, too: cookies, the address
// of the visitor's browser, or its client certificate.
func (c *Policy) Vouch(r *http.Request, who *access.Caller) *access.Caller {
	if who.Matched == nil || !c.foreign(r) {
		return who
	}
	without := *who
	without.Matched = nil
	return &without
}

// trusts reports whether the Origin header is this origin, or one that may call
// with credentials. Over plain HTTP both schemes are accepted: a proxy in front may
// have terminated TLS.
func (c *Policy) trusts(r *http.Request) bool {
	values := r.Header["Origin"]
	if len(values) != 1 {
		return false
	}
	origin := values[0]
	if c != nil && c.origins[origin] {
		return true
	}
	scheme, host, ok := strings.Cut(origin, "://")
	if !ok || scheme != "https" && (scheme != "http" || r.TLS != nil) {
		return false
	}
	return strings.EqualFold(auth.WithoutDefaultPort(host, scheme), auth.WithoutDefaultPort(r.Host, scheme)) && host != ""
}

// ambient reports whether r has credentials that a browser adds by itself: cookies,
// or an Authorization header that is not Bearer, which only a script can set.
func ambient(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return r.Header["Cookie"] != nil || scheme != "" && !strings.EqualFold(scheme, "Bearer")
}
