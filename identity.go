package evstream

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// caller is who makes a request, and by what right. It does not change once it
// is made. The zero caller is nobody.
type caller struct {
	name  string // a named bearer's
	admin bool   // came over Caddy's admin endpoint

	user    string         // authenticated; "" for none
	claims  map[string]any // of a token, or what the application says
	grants  *grants        // that the credential carries itself; nil for none
	tokenID string         // by which the credential can be revoked
	expires time.Time      // of the credential; zero: never
	ambient bool           // the browser sends the credential unasked

	method  method     // how the caller was identified
	source  string     // what says so: the application, or what verified the token
	parent  string     // tokenID of the credential that a ticket was made with
	issued  time.Time  // when the credential was; zero: it does not say
	welcome *sse.Event // what the application says first on a stream; nil for nothing

	matched map[string]bool // the matchers of rules that match the request, by definition
}

// nobody is the caller of all streams that nobody in particular asked for.
var nobody = new(caller)

// kept is what a stream keeps of a caller: for nobody, nothing.
func (c *caller) kept() *caller {
	if c.method == "" && c.name == "" && !c.admin && c.user == "" && c.matched == nil {
		return nobody
	}
	k := *c
	k.welcome = nil // it has been said by the time that it matters
	return &k
}

// method is how a caller was identified.
type method string

const (
	byBearer      method = "bearer" // the secret of a named bearer
	byToken       method = "jwt"    // wherever it was sent
	byTicket      method = "ticket"
	byCaddy       method = "caddy_auth"
	byApplication method = "verify"
)

// grants are the patterns that a credential allows by verb, beside the rules.
type grants struct {
	patterns map[string][]broker.Pattern
}

// grantsClaim is the claim that has grants.
const grantsClaim = "evstream"

// readGrants reads the claim with grants: {"subscribe":["a/**"]}. One that is
// not understood is an error, because it may have been meant to allow less.
func readGrants(claim any) (*grants, error) {
	verbsOf, ok := claim.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the claim %q is not an object of verbs", grantsClaim)
	}
	g := &grants{patterns: make(map[string][]broker.Pattern, len(verbsOf))}
	for verb, value := range verbsOf {
		if verb == "all" || !slices.Contains(verbs, verb) {
			return nil, fmt.Errorf("the claim %q has the verb %q", grantsClaim, clip(verb))
		}
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("the claim %q has no list of patterns for %s", grantsClaim, verb)
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return nil, fmt.Errorf("the claim %q has a pattern for %s that is not a string", grantsClaim, verb)
			}
			p, err := broker.ParsePattern(s)
			if err != nil {
				return nil, fmt.Errorf("the claim %q: %s: %w", grantsClaim, verb, err)
			}
			g.patterns[verb] = append(g.patterns[verb], p)
		}
	}
	return g, nil
}

// take makes the claims the caller's, and what they say of the credential.
func (c *caller) take(from claims) error {
	c.claims = from.all
	if from.std.Expiry != nil {
		c.expires = from.std.Expiry.Time()
	}
	if from.std.IssuedAt != nil {
		c.issued = from.std.IssuedAt.Time()
	}
	claim, ok := from.all[grantsClaim]
	if !ok {
		return nil
	}
	var err error
	c.grants, err = readGrants(claim)
	return err
}

// anonymous reports whether the caller is nobody.
func (c caller) anonymous() bool {
	return !c.admin && c.name == "" && c.user == "" && c.tokenID == "" && c.claims == nil
}

// identity tells callers apart where what they send is remembered. Each kind
// has a prefix of its own, so that a user cannot be called what a bearer is.
func (c caller) identity() string {
	switch {
	case c.admin:
		return "admin"
	case c.name != "":
		return "bearer:" + c.name
	case c.user != "":
		return "user:" + c.user
	case c.tokenID != "":
		return "token:" + c.tokenID
	}
	return ""
}

func (c caller) String() string {
	switch {
	case c.name != "":
		return c.name
	case c.user != "":
		return fmt.Sprintf("user %q", clip(c.user))
	case !c.anonymous():
		return "the bearer of the token"
	}
	return anyone
}

// bearer is a named secret, of which only the digest is held: comparing
// digests takes the same time whatever the secrets' lengths are.
type bearer struct {
	name   string
	digest [sha256.Size]byte
}

func (a *access) addBearers(bearers map[string]string) error {
	names := make([]string, 0, len(bearers))
	for name := range bearers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b := bearer{name: name, digest: sha256.Sum256([]byte(bearers[name]))}
		switch {
		case name == "" || strings.ContainsAny(name, " \t\r\n@"):
			return fmt.Errorf("%q cannot name a bearer: a name has no space and no @", name)
		case name == anyone || name == "user" || name == "claim":
			return fmt.Errorf("%q cannot name a bearer: in a rule it has a meaning of its own", name)
		case bearers[name] == "":
			return fmt.Errorf("the secret of bearer %q is empty", name)
		case strings.TrimSpace(bearers[name]) != bearers[name]:
			return fmt.Errorf("the secret of bearer %q begins or ends with white space, which no request could send", name)
		}
		for _, other := range a.bearers {
			if other.digest == b.digest {
				return fmt.Errorf("the bearers %q and %q have the same secret, so they could not be told apart", other.name, name)
			}
		}
		a.bearers = append(a.bearers, b)
	}
	return nil
}

// identify finds out who makes a request. The first credential that is found
// decides: one that is wrong is an error even where nobody would be allowed,
// because whoever sent it expects to be somebody. None is nobody.
func (a *access) identify(r *http.Request) (caller, error) {
	if a.all {
		return caller{admin: true}, nil
	}
	for _, by := range [...]func(*http.Request) (caller, bool, error){
		a.byHeader, a.byCookie, a.byQuery, a.byTicket, a.byCaddy, a.byApplication,
	} {
		who, found, err := by(r)
		if err != nil {
			return caller{}, a.refuseCredential(err)
		}
		if found {
			if err := a.hub.mayEnter(who, time.Now()); err != nil {
				return caller{}, a.refuseCredential(err)
			}
			return who, nil
		}
	}
	return caller{}, nil
}

// identifies reports whether credentials are accepted at all.
func (a *access) identifies() bool {
	return len(a.bearers) > 0 || a.tokens != nil || a.tickets != nil || a.caddyAuth || a.application != nil
}

// byHeader reads "Authorization: Bearer". Other schemes are for the handlers in
// front, and so are all where neither bearers nor tokens are configured.
func (a *access) byHeader(r *http.Request) (caller, bool, error) {
	values := r.Header["Authorization"]
	if len(a.bearers) == 0 && a.tokens == nil || len(values) == 0 {
		return caller{}, false, nil
	}
	if len(values) > 1 {
		return caller{}, true, unauthorized.because("there is more than one Authorization header")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return caller{}, false, nil
	}
	who, err := a.bySecret(r, strings.TrimSpace(secret))
	return who, true, err
}

// byCookie reads a token from the cookie that is configured. A browser sends
// it unasked, for any page.
func (a *access) byCookie(r *http.Request) (caller, bool, error) {
	if a.cookie == "" {
		return caller{}, false, nil
	}
	cookies := r.CookiesNamed(a.cookie)
	switch {
	case len(cookies) > 1:
		// A page of a sibling domain may have planted one of them.
		return caller{}, true, unauthorized.because("there is more than one cookie %s", a.cookie)
	case len(cookies) == 0, cookies[0].Value == "": // emptied by logging out
		return caller{}, false, nil
	}
	who, err := a.byJWT(r, cookies[0].Value)
	who.ambient = true
	return who, true, err
}

// byQuery reads a secret or a token from the parameter that is configured.
func (a *access) byQuery(r *http.Request) (caller, bool, error) {
	if a.parameter == "" {
		return caller{}, false, nil
	}
	secret, given, err := query(r.URL.RawQuery).one(a.parameter)
	if err != nil || !given {
		return caller{}, given, err
	}
	who, err := a.bySecret(r, secret)
	return who, true, err
}

// byCaddy believes a handler in front, such as basic_auth. After a reload the
// request that is asked about did not pass it: who it was then is who it is.
func (a *access) byCaddy(r *http.Request) (caller, bool, error) {
	if !a.caddyAuth {
		return caller{}, false, nil
	}
	if was, again := askedBefore(r); again {
		return was, was.method == byCaddy, nil
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return caller{}, false, nil
	}
	user, _ := repl.GetString("http.auth.user.id")
	return caller{user: user, method: byCaddy, issued: time.Now(), ambient: true}, user != "", nil
}

// bySecret finds out whose secret it is, or reads it as a token.
func (a *access) bySecret(r *http.Request, secret string) (caller, error) {
	found := -1
	var digest [sha256.Size]byte
	if len(a.bearers) > 0 {
		digest = sha256.Sum256([]byte(secret))
	}
	for i := range a.bearers { // all of them, so that time tells nothing
		equal := subtle.ConstantTimeCompare(digest[:], a.bearers[i].digest[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	switch {
	case found >= 0:
		return caller{name: a.bearers[found].name, method: byBearer}, nil
	case a.tokens == nil:
		return caller{}, unauthorized.because("the bearer is not known here")
	}
	return a.byJWT(r, secret)
}

// byJWT reads a token.
func (a *access) byJWT(r *http.Request, token string) (caller, error) {
	_, again := askedBefore(r)
	return a.tokens.verify(r.Context(), token, time.Now(), again)
}

// refuseCredential is the answer to a credential that is not accepted. Why it
// is not is for the log, but that its time is over.
func (a *access) refuseCredential(err error) error {
	p, told := errors.AsType[*problem](err)
	switch {
	case told:
	case errors.Is(err, errExpired):
		p = unauthorized.because("%w", errExpired)
	case errors.Is(err, errNoKeys), errors.Is(err, errApplication), errors.Is(err, errBehind):
		p = unavailable.because("who makes the request cannot be told now")
		p.cause = err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p = unavailable.because("%w", err)
	default:
		p = unauthorized.because("the credential is not accepted here")
	}
	if a.logger != nil {
		a.logger.Debug("a credential is not accepted", slog.Any("error", err))
	}
	refused := *p
	refused.credential = !errors.Is(err, errNoSuchCaller)
	return &refused
}

// asking is the key under which a request that is asked about again has the
// caller that was found the first time.
type asking struct{}

// askAgain marks the request of a stream that lived through a reload: nobody is
// waited for to find out who makes it, neither an application nor keys.
func askAgain(r *http.Request, was caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), asking{}, was))
}

// askedBefore reports whether the request is asked about again.
func askedBefore(r *http.Request) (was caller, again bool) {
	was, again = r.Context().Value(asking{}).(caller)
	return was, again
}
