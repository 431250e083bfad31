package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// ticketIn returns the ticket in the query of r, which is given if there is one.
func (a *Authenticator) ticketIn(r *http.Request) (sealed string, given bool, err error) {
	if a.tickets == nil || r.URL.RawQuery == "" {
		return "", false, nil
	}
	sealed, given, err = query.Query(r.URL.RawQuery).One("ticket")
	return sealed, given, problemOr(err)
}

// noTicket refuses the ticket of a request that does not open a stream. It is not
// opened, so that the answer tells nothing about it.
func (a *Authenticator) noTicket(r *http.Request) (*access.Caller, bool, error) {
	_, given, err := a.ticketIn(r)
	if err == nil && given {
		err = problem.Unauthorized.Because("a ticket opens a stream, with GET, and nothing else; for this request send the credential itself")
	}
	return nil, given, err
}

// byTicket reads a ticket from the query of a request that opens a stream.
func (a *Authenticator) byTicket(r *http.Request) (*access.Caller, bool, error) {
	sealed, given, err := a.ticketIn(r)
	if err != nil || !given {
		return nil, given, err
	}
	if r.Method != http.MethodGet {
		return a.noTicket(r)
	}
	t, err := a.tickets.open(sealed)
	if err != nil {
		return nil, true, err
	}
	if err := a.checkTicket(t, r); err != nil {
		return nil, true, err
	}
	who, err := a.callerOf(t)
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", errTicket, err)
	}
	who.Ticket = &access.TicketUse{ID: t.ID, Owner: ownerOf(who), Open: time.UnixMilli(t.Open), End: time.UnixMilli(t.End)}
	return who, true, a.deps.TicketStore.MayUseTicket(who.Ticket, time.Now(), Previous(r) != nil)
}

// ownerOf is whose tickets are bounded together: a digest of the identity of the
// caller. It is "" for a named bearer, which may ask for tickets on behalf of many.
func ownerOf(who *access.Caller) string {
	if who.Name != "" {
		return ""
	}
	digest := sha256.Sum256([]byte(who.Identity()))
	return base64.RawURLEncoding.EncodeToString(digest[:16])
}

// callerOf is the caller whom a ticket was given. The claims of a token are checked
// again, as the token itself would be: the ticket may come from another handler, or
// from a configuration of before.
func (a *Authenticator) callerOf(t *ticket) (*access.Caller, error) {
	who := &access.Caller{Name: t.Name, User: t.User, TokenID: t.ID, Parent: t.Parent, Method: access.ByTicket}
	if t.Claims != nil {
		c, err := readClaims(t.Claims)
		if err == nil {
			err = c.setOn(who)
		}
		if err == nil && t.Method == access.ByToken {
			if err = a.tokens.check(&c.std, time.Now()); err == nil {
				who.User, err = a.tokens.user(c)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	who.Expires, who.Issued = time.UnixMilli(t.End), time.Time{}
	if t.Issued != 0 {
		who.Issued = time.UnixMilli(t.Issued)
	}
	return who, nil
}

// checkTicket reports why a request may not use a ticket that was decrypted.
func (a *Authenticator) checkTicket(t *ticket, r *http.Request) error {
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

// vouches reports whether the credential that a ticket was given for would be
// accepted here: whether the bearer's secret, the key or the application is
// configured still. Otherwise a ticket would outlive it, and a handler would take
// the users of another handler for its own.
func (a *Authenticator) vouches(t *ticket) bool {
	switch t.Method {
	case access.ByBearer:
		return t.Proof != nil && bytes.Equal(t.Proof, a.proof(&access.Caller{Name: t.Name}))
	case access.ByToken:
		return a.tokens != nil && a.tokens.vouches(t.Proof)
	case access.ByOuter:
		return a.outer != nil
	case access.ByApplication:
		return a.application != nil && bytes.Equal(t.Proof, proofOf(a.application.name()))
	}
	return false
}

// proof is a digest of what a caller was identified with: the bearer's secret, or
// Caller.Source. It is nil where there is neither.
func (a *Authenticator) proof(who *access.Caller) []byte {
	for i := range a.bearers {
		if who.Name != "" && a.bearers[i].name == who.Name {
			return proofOf(string(a.bearers[i].digest[:]))
		}
	}
	if who.Source == "" {
		return nil
	}
	return proofOf(who.Source)
}

// proofOf is a short digest of a source, or of a secret's digest.
func proofOf(source string) []byte {
	digest := sha256.Sum256([]byte(source))
	return digest[:8]
}
