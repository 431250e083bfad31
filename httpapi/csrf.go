package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/problem"
)

// What a page of another origin may have a browser do here. Cookies, and what
// a browser sends along by itself, come with requests that their owner never
// meant; CORS only decides who may read the answer, and the browser asks that
// after a simple request was made.

// CheckAmbient reports origins that cannot stand beside credentials that
// browsers send unasked: a page of any origin would call with its visitor's.
func CheckAmbient(origins []string, c *auth.Config) error {
	return checkAmbient(origins, c.Cookie != "" || c.Outer != nil)
}

func checkAmbient(origins []string, ambient bool) error {
	if ambient && slices.Contains(origins, "*") {
		return errors.New("cors * cannot stand beside cookie or caddy_auth, which a browser sends unasked: name the origins, such as https://app.example.com")
	}
	return nil
}

// check refuses a write that a page of a foreign origin made. Where any origin
// may write, it may not do so with what a browser sends along by itself.
func (c *cors) check(r *http.Request) error {
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

// checkWrite refuses a write that rests on what a browser sends unasked, where
// it does not say which page it is from: every browser does.
func (c *cors) checkWrite(r *http.Request, who *access.Caller) error {
	if who.Ambient || who.Anonymous() && r.Header["Cookie"] != nil {
		if !c.trusts(r) {
			return problem.CrossOrigin.Because("with cookies or a browser's own credentials a write needs an Origin header, of this origin or of one that is named by cors in the configuration")
		}
	}
	return nil
}

// checkRead refuses a read that rests on what a browser sends unasked, where a
// page of a foreign origin made it: it could not read the answer, but would
// hold a stream open in its visitor's name.
func (c *cors) checkRead(r *http.Request, who *access.Caller) error {
	if !who.Ambient && (!who.Anonymous() || !ambient(r)) {
		return nil
	}
	if r.Header["Origin"] == nil {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
			return nil
		}
	} else if c.trusts(r) {
		return nil
	}
	return problem.CrossOrigin.Because("a page of another origin may not read here with cookies or a browser's own credentials; the origins that may are named by cors in the configuration")
}

// vouch is who, without the matchers of rules where a page of an origin made
// the request that may call without credentials only. Where its visitor's
// browser is, and which certificate it has, is sent along unasked, too.
func (c *cors) vouch(r *http.Request, who *access.Caller) *access.Caller {
	if who.Matched == nil || r.Header["Origin"] == nil || c.trusts(r) {
		return who
	}
	without := *who
	without.Matched = nil
	return &without
}

// trusts reports whether a request says that it is from a page of this origin,
// or of one that may call with credentials. Behind a proxy that ends TLS the
// scheme is not known, and either will do.
func (c *cors) trusts(r *http.Request) bool {
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

// ambient reports whether r has credentials that a browser adds unasked. A
// bearer is none: a script must know it.
func ambient(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return r.Header["Cookie"] != nil || scheme != "" && !strings.EqualFold(scheme, "Bearer")
}
