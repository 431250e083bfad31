// Package auth finds out who makes a request: by the secret of a bearer, a JSON Web
// Token, a ticket, a handler in front, or an application that is asked. What a
// caller may do, package access decides.
package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/sse"
)

// Config says how callers are identified. Each way is off unless it is given.
type Config struct {
	// Bearers are secrets by name, for "Authorization: Bearer <secret>". The
	// names can stand in rules.
	Bearers map[string]string
	// JWT says which JSON Web Tokens are accepted, for "Authorization: Bearer
	// <token>".
	JWT *JWT
	// Cookie is the name of a cookie that has a token. It needs JWT.
	Cookie string
	// QueryParameter is the name of a query parameter that has a token or the
	// secret of a bearer. URLs end up in logs: a warning is logged.
	QueryParameter string
	// Tickets gives and accepts tickets, for clients that cannot set headers.
	Tickets *Tickets
	// Outer returns the user that a handler in front has authenticated, "" for
	// none. It is called for requests without any of the credentials above, and
	// must be safe for concurrent use.
	Outer func(*http.Request) string
	// Verify asks an application who makes a request, where nothing above says so.
	Verify *Verify
}

// Deps is what an Authenticator needs from its surroundings. Each field may be
// zero, but tickets need a TicketStore. The functions must be safe for concurrent
// use.
type Deps struct {
	// Revocations says who is revoked. Default: nobody is.
	Revocations Revocations
	// TicketStore knows which tickets are in use. Required for tickets.
	TicketStore TicketStore

	// Scope is where tickets are good: the name of a broker, and a mount. Handlers
	// and nodes accept each other's tickets if they have the same key and, but for
	// case, the same scope.
	Scope []string
	// TicketKey makes tickets where Tickets has no keys. Default: a key of this
	// Authenticator's own.
	TicketKey []byte

	// KeySets has the keys of JWKS URLs. Authenticators may share one. Default: one
	// of this Authenticator's own.
	KeySets *KeySets
	// Forbid returns an error for each further address that JWKS and Verify must
	// not connect to. Of JWKS only where KeySets is nil: another has its own.
	// Default: none.
	Forbid func(netip.AddrPort) error
	// ClientIP returns the address of a client, which an application is told.
	// Default: that of the connection.
	ClientIP func(*http.Request) string
	// InFront reports whether a handler in front, such as basic_auth, has accepted a
	// credential of the request, also where Config.Outer is not set. Then an
	// Authorization header that is not a bearer's is not refused: it was meant for that
	// handler. Default: only Config.Outer says so.
	InFront func(*http.Request) bool
	// ReadEvent reads the event in an application's answer: see
	// httpapi.ReadEvent. Default: an answer with an event is an error.
	ReadEvent func(json.RawMessage) (*sse.Event, error)

	// Logger gets warnings about the configuration, and errors while it is used.
	// Default: they are discarded.
	Logger *slog.Logger
}

// Revocations says who is let in. It is safe for concurrent use.
type Revocations interface {
	// MayEnter is called for each request with a credential that is accepted. The
	// error says why the caller is not let in: because of a revocation, or because
	// it is not known yet what is revoked.
	MayEnter(who *access.Caller, now time.Time) error
}

// TicketStore remembers the tickets that have opened a stream. It is safe for
// concurrent use.
type TicketStore interface {
	// MayUseTicket says why a ticket is not good now: its first use is before t.Open,
	// and others before t.End. again says that a reload makes the request of a stream
	// again, which is never the first use. Nothing is recorded: a ticket is used when
	// its stream is taken in, which is for whoever does that.
	MayUseTicket(t *access.TicketUse, now time.Time, again bool) error
}

// Check reports the first setting that lacks another, or cannot be used. It does not
// read secrets and keys.
func (c *Config) Check(reservedParameters []string) error {
	switch {
	case c.Cookie != "" && c.JWT == nil:
		return errors.New("cookie names the cookie that has a token, so jwt has to say which tokens are accepted")
	case c.QueryParameter != "" && c.JWT == nil && len(c.Bearers) == 0:
		return errors.New("insecure_query_token needs a bearer or jwt: nothing is accepted that could be in the query")
	case c.Tickets != nil && c.JWT == nil && len(c.Bearers) == 0 && c.Outer == nil && c.Verify == nil:
		return errors.New("tickets needs another credential, for which a ticket is given: bearer, jwt, caddy_auth or verify")
	}
	if c.Cookie != "" && !isToken(c.Cookie) {
		return fmt.Errorf("%q cannot name a cookie", c.Cookie)
	}
	if p := c.QueryParameter; p != "" && (!isToken(p) || slices.Contains(reservedParameters, p)) {
		return fmt.Errorf("insecure_query_token: %q cannot name the parameter: it has letters, digits, - and _, and is none of the hub's own: %s", p, strings.Join(reservedParameters, ", "))
	}
	return nil
}

// Any reports whether credentials are accepted at all.
func (c *Config) Any() bool {
	return len(c.Bearers) > 0 || c.JWT != nil || c.Tickets != nil || c.Outer != nil || c.Verify != nil
}

// BearerNames are the names of the bearers, sorted.
func (c *Config) BearerNames() []string { return slices.Sorted(maps.Keys(c.Bearers)) }

// CheckRule reports a rule for users, or for claims, where nothing in c says who is
// a user, or has claims: it could never allow anything.
func (c *Config) CheckRule(r *access.Rule) error {
	says := c.JWT != nil || c.Verify != nil
	switch {
	case !says && r.NeedsClaims():
		return errors.New("nobody has claims here: jwt or verify would say who does")
	case !says && c.Outer == nil && r.NeedsUser():
		return errors.New("nobody is a user here: jwt, verify or caddy_auth would say who is")
	}
	return nil
}

// Policy makes the rules of a handler whose callers c identifies. It reports the
// first rule that could never allow anything.
func (c *Config) Policy(rules []access.Rule) (*access.Policy, error) {
	for i := range rules {
		if err := c.CheckRule(&rules[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", &rules[i], err)
		}
	}
	return access.NewPolicy(rules, c.BearerNames(), c.Any())
}

// isToken reports whether s is a name that needs no escape in a header, a cookie or
// a query.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		return !letter && (c < '0' || c > '9') && c != '-' && c != '_'
	}) < 0
}
