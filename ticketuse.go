package evstream

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// byTicket reads a ticket from the query. It opens streams and nothing else.
func (a *access) byTicket(r *http.Request) (caller, bool, error) {
	if a.tickets == nil || r.URL.RawQuery == "" {
		return caller{}, false, nil
	}
	sealed, given, err := query(r.URL.RawQuery).one("ticket")
	if err != nil || !given {
		return caller{}, given, err
	}
	if r.Method != http.MethodGet {
		return caller{}, true, unauthorized.because("a ticket is for reading only")
	}
	t, err := a.tickets.open(sealed)
	if err != nil {
		return caller{}, true, err
	}
	if err := a.checkTicket(t, r); err != nil {
		return caller{}, true, err
	}
	who, err := a.callerOf(t)
	if err != nil {
		return caller{}, true, fmt.Errorf("%w: %w", errTicket, err)
	}
	_, again := askedBefore(r)
	return who, true, a.hub.useTicket(t, time.Now(), again)
}

// callerOf is the caller whom a ticket was given. The claims of a token are
// judged again, as the token itself would be: this may be another handler than
// the one that it was given by, or another configuration.
func (a *access) callerOf(t *ticket) (caller, error) {
	who := caller{name: t.Name, user: t.User, tokenID: t.ID, parent: t.Parent, method: byTicket}
	if t.Claims != nil {
		c, err := readClaims(t.Claims)
		if err == nil {
			err = who.take(c)
		}
		if err == nil && t.Method == byToken {
			if err = a.tokens.check(&c.std, time.Now()); err == nil {
				who.user, err = a.tokens.user(c)
			}
		}
		if err != nil {
			return caller{}, err
		}
	}
	who.expires, who.issued = time.UnixMilli(t.End), time.Time{}
	if t.Issued != 0 {
		who.issued = time.UnixMilli(t.Issued)
	}
	return who, nil
}

// checkTicket reports why a request may not use a ticket that is genuine.
func (a *access) checkTicket(t *ticket, r *http.Request) error {
	port := localPort(r)
	switch {
	case !a.vouches(t):
		return fmt.Errorf("%w: it was given for a credential that is not accepted here", errTicket)
	case a.tickets.own && (t.Host != hostname(r.Host) || port != "" && t.Port != "" && t.Port != port):
		return fmt.Errorf("%w: it was given for another host", errTicket)
	case !sameOriginAs(t.Origin, r):
		return fmt.Errorf("%w: it was given to a page of another origin", errTicket)
	}
	return nil
}

// vouches reports whether what stood behind the credential that a ticket was
// given for is configured here, and still: the secret of the bearer, a key, or
// the application. Otherwise a ticket would outlive it, and a handler beside the
// one that gave it would take the users of that one for its own.
func (a *access) vouches(t *ticket) bool {
	switch t.Method {
	case byBearer:
		return t.Proof != nil && bytes.Equal(t.Proof, a.proof(caller{name: t.Name}))
	case byToken:
		return a.tokens != nil && a.tokens.vouches(t.Proof)
	case byCaddy:
		return a.caddyAuth
	case byApplication:
		return a.application != nil && bytes.Equal(t.Proof, proofOf(a.application.name()))
	}
	return false
}

// proof tells what stands behind a caller from what it is exchanged for: of a
// bearer, the secret. It is nil where nothing can be told apart.
func (a *access) proof(who caller) []byte {
	for i := range a.bearers {
		if who.name != "" && a.bearers[i].name == who.name {
			return proofOf(string(a.bearers[i].digest[:]))
		}
	}
	if who.source == "" {
		return nil
	}
	return proofOf(who.source)
}

// proofOf is a short digest of what names a source.
func proofOf(source string) []byte {
	digest := sha256.Sum256([]byte(source))
	return digest[:8]
}

// sameOriginAs reports whether a stream is asked for by a page of the origin
// that was given the ticket; "" is no page, but a program. A browser names the
// origin where it is not the stream's own. Where it is, it says so in
// Sec-Fetch-Site, if it is not too old.
func sameOriginAs(origin string, r *http.Request) bool {
	if named := r.Header["Origin"]; len(named) > 0 {
		return len(named) == 1 && origin != "" && strings.ToLower(named[0]) == origin
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" {
		return site == ""
	}
	u, err := url.Parse(origin)
	return err == nil && (site == "" || site == "same-origin") && strings.EqualFold(u.Host, withoutDefaultPort(r.Host, u.Scheme))
}

func withoutDefaultPort(host, scheme string) string {
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
