// Package auth finds out who makes a request: by a named bearer's secret, a JSON
// Web Token, a ticket, a handler in front, or an application that is asked. What
// the caller may do then is for package access.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// Authenticator finds out who makes a request. It is made by Open and safe for
// concurrent use.
type Authenticator struct {
	bearers     []bearer
	tokens      *tokens // nil: none
	cookie      string  // the name of the cookie with a token; "": none
	parameter   string  // the name of the query parameter with a secret; "": none
	tickets     *tickets
	outer       func(*http.Request) string // nil: none
	application *application

	deps    Deps
	release []func() // gives back what was taken
}

// Authenticate finds out who makes a request. The first credential that is found
// decides: a wrong one is an error even where an anonymous caller would be allowed,
// because whoever sent it expects to be known by it. Without a credential the caller
// is anonymous. The Caller may be shared: it must not be changed. Errors are of type
// *problem.Error.
//
// A ticket is refused: see AuthenticateStream.
func (a *Authenticator) Authenticate(r *http.Request) (*access.Caller, error) {
	return a.authenticate(r, a.noTicket)
}

// AuthenticateStream is Authenticate for a request that opens a stream, which a
// ticket may do. The Caller of one has its Ticket, which is good by now, and is used
// when the stream is taken in.
func (a *Authenticator) AuthenticateStream(r *http.Request) (*access.Caller, error) {
	return a.authenticate(r, a.byTicket)
}

func (a *Authenticator) authenticate(r *http.Request, ticket func(*http.Request) (*access.Caller, bool, error)) (*access.Caller, error) {
	for _, by := range [...]func(*http.Request) (*access.Caller, bool, error){
		a.byHeader, a.byCookie, a.byQuery, ticket, a.byOuter, a.byApplication,
	} {
		who, found, err := by(r)
		if err != nil {
			return nil, a.refuseCredential(err)
		}
		if found {
			if a.deps.Revocations != nil {
				if err := a.deps.Revocations.MayEnter(who, time.Now()); err != nil {
					return nil, a.refuseCredential(err)
				}
			}
			return who, nil
		}
	}
	return access.AnonymousCaller(), nil
}

// QueryParameter is the name of the query parameter that has a credential; "" for
// none.
func (a *Authenticator) QueryParameter() string { return a.parameter }

// Ambient reports whether credentials are accepted that a browser sends unasked, for
// a page of any origin.
func (a *Authenticator) Ambient() bool { return a.cookie != "" || a.outer != nil }

// Presents reports whether a request has something that Authenticate would look at as
// a credential, or has the application asked about.
func (a *Authenticator) Presents(r *http.Request) bool {
	q := query.Query(r.URL.RawQuery)
	return a.application != nil ||
		len(r.Header["Authorization"]) > 0 && (len(a.bearers) > 0 || a.tokens != nil) ||
		a.cookie != "" && len(r.CookiesNamed(a.cookie)) > 0 ||
		q != "" && (a.parameter != "" && q.Has(a.parameter) || a.tickets != nil && q.Has("ticket"))
}

// byHeader reads "Authorization: Bearer". Any other is refused, unless a handler in
// front has accepted it, or the application is asked, which may know it. Where
// neither bearers nor tokens are configured all are for others.
func (a *Authenticator) byHeader(r *http.Request) (*access.Caller, bool, error) {
	values := r.Header["Authorization"]
	if len(a.bearers) == 0 && a.tokens == nil || len(values) == 0 {
		return nil, false, nil
	}
	if len(values) > 1 {
		return nil, true, problem.Unauthorized.Because("there is more than one Authorization header")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		// A request that is made again did not pass the handlers in front.
		if values[0] == "" || a.application != nil || Previous(r) != nil || a.inFront(r) {
			return nil, false, nil
		}
		return nil, true, problem.Unauthorized.Because("%w", errNotUnderstood)
	}
	who, err := a.bySecret(r, strings.TrimSpace(secret))
	return who, true, err
}

// errNotUnderstood is the error of an Authorization header that is not a bearer's. It
// does not quote it: without a scheme it is the secret itself.
var errNotUnderstood = errors.New("the Authorization header is not understood: it is to be the word Bearer, a space, and a token or the secret of a bearer")

// inFront reports whether a handler in front has accepted a credential.
func (a *Authenticator) inFront(r *http.Request) bool {
	return a.deps.InFront != nil && a.deps.InFront(r) || a.outer != nil && a.outer(r) != ""
}

// byCookie reads a token from the cookie that is configured. A browser sends
// it unasked, for any page.
func (a *Authenticator) byCookie(r *http.Request) (*access.Caller, bool, error) {
	if a.cookie == "" {
		return nil, false, nil
	}
	cookies := r.CookiesNamed(a.cookie)
	switch {
	case len(cookies) > 1:
		// A page of a sibling domain may have set one of them.
		return nil, true, problem.Unauthorized.Because("there is more than one cookie %s", a.cookie)
	case len(cookies) == 0, cookies[0].Value == "": // emptied by logging out
		return nil, false, nil
	}
	who, err := a.byJWT(r, cookies[0].Value)
	if err != nil {
		return nil, true, err
	}
	unasked := *who // it is shared with requests that have the token in a header
	unasked.Ambient = true
	return &unasked, true, nil
}

// byQuery reads a secret or a token from the parameter that is configured.
func (a *Authenticator) byQuery(r *http.Request) (*access.Caller, bool, error) {
	if a.parameter == "" {
		return nil, false, nil
	}
	secret, given, err := query.Query(r.URL.RawQuery).One(a.parameter)
	if err != nil || !given {
		return nil, given, problemOr(err)
	}
	who, err := a.bySecret(r, secret)
	return who, true, err
}

// problemOr makes a problem of an error of a query.
func problemOr(err error) error {
	if err == nil {
		return nil
	}
	return problem.Of(err)
}

// byOuter believes a handler in front, such as basic_auth. A request that is made
// again after a reload did not pass it: its caller is the one of the first time.
func (a *Authenticator) byOuter(r *http.Request) (*access.Caller, bool, error) {
	if a.outer == nil {
		return nil, false, nil
	}
	if was := Previous(r); was != nil {
		return was, was.Method == access.ByOuter, nil
	}
	user := a.outer(r)
	return &access.Caller{User: user, Method: access.ByOuter, Issued: time.Now(), Ambient: true}, user != "", nil
}

// bySecret finds out whose secret it is, or reads it as a token.
func (a *Authenticator) bySecret(r *http.Request, secret string) (*access.Caller, error) {
	found := -1
	var digest [sha256.Size]byte
	if len(a.bearers) > 0 {
		digest = sha256.Sum256([]byte(secret))
	}
	for i := range a.bearers { // all of them, so that the time taken does not tell which
		equal := subtle.ConstantTimeCompare(digest[:], a.bearers[i].digest[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	switch {
	case found >= 0:
		return &access.Caller{Name: a.bearers[found].name, Method: access.ByBearer}, nil
	case a.tokens == nil:
		return nil, problem.Unauthorized.Because("the bearer is not known here")
	}
	return a.byJWT(r, secret)
}

// byJWT reads a token. The Caller is shared.
func (a *Authenticator) byJWT(r *http.Request, token string) (*access.Caller, error) {
	return a.tokens.verify(r.Context(), token, time.Now(), Previous(r) != nil)
}

// refuseCredential makes the answer to a credential that is not accepted. A client is
// told that it has expired; any other reason is only logged.
func (a *Authenticator) refuseCredential(err error) error {
	p, told := errors.AsType[*problem.Error](err)
	switch {
	case told:
	case errors.Is(err, access.ErrExpired):
		p = problem.Unauthorized.Because("%w", access.ErrExpired)
	case problem.Declared(err) == problem.Unavailable:
		p = problem.Unavailable.Hiding(err, "the caller cannot be identified now")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p = problem.Unavailable.Because("%w", err)
	default:
		p = problem.Unauthorized.Because("the credential is not accepted here")
	}
	a.deps.Logger.Debug("a credential is not accepted", slog.Any("error", err))
	refused := *p
	refused.Credential = !errors.Is(err, errNoSuchCaller) && !errors.Is(err, errNotUnderstood)
	return &refused
}

// previous is the key in the context of a request that is made again: its value is
// the caller that was found the first time.
type previous struct{}

// Again marks a request as that of a stream which has outlived a reload. was is the
// caller that was found the first time. Authenticate then waits for nothing: it asks
// no application, and uses the keys that are there.
func Again(r *http.Request, was *access.Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), previous{}, was))
}

// Previous returns the caller that Again has marked a request with, nil for none.
func Previous(r *http.Request) *access.Caller {
	was, _ := r.Context().Value(previous{}).(*access.Caller)
	return was
}
