package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// Caller is who makes a request, and by what right. It does not change once it
// is made, and is passed by pointer. The zero Caller is anonymous.
type Caller struct {
	Name  string // a named bearer's
	Admin bool   // came over an endpoint that allows everything

	User    string         // authenticated; "" for none
	Claims  map[string]any // of a token, or what the application says
	Grants  *Grants        // that the credential has itself; nil for none
	TokenID string         // by which the credential can be revoked
	Expires time.Time      // of the credential; zero: never
	Ambient bool           // the browser sends the credential unasked
	// Meta is the metadata of the user where the caller is present, of the form that
	// presence.CheckMeta returns; nil for what the channel takes of Claims.
	Meta json.RawMessage

	Method Method     // how the caller was identified
	Source string     // what says so: the application, or what verified the token
	Parent string     // TokenID of the credential that a ticket was made with
	Issued time.Time  // when the credential was, at the earliest; zero: it does not say
	Event  *sse.Event // what the application says first on a stream; nil for nothing

	Matched map[string]bool // the matchers of rules that match the request, by identity

	Ticket *TicketUse // of a caller by ticket, which is used when the stream is taken in; else nil
}

// anonymous is the shared Caller of anonymous streams, to save memory.
var anonymous = new(Caller)

// AnonymousCaller returns a Caller of whom nothing is known. It is always the
// same one.
func AnonymousCaller() *Caller { return anonymous }

// Kept returns what a stream keeps of its caller as long as it lasts: all but Event.
// For an anonymous caller it is AnonymousCaller.
func (c *Caller) Kept() *Caller {
	if c.Method == "" && c.Name == "" && !c.Admin && c.User == "" && c.Matched == nil {
		return anonymous
	}
	k := *c
	k.Event = nil // it is sent when the stream begins
	return &k
}

// Method is how a caller was identified.
type Method string

// The methods.
const (
	ByBearer      Method = "bearer" // the secret of a named bearer
	ByToken       Method = "jwt"    // wherever it was sent
	ByTicket      Method = "ticket"
	ByOuter       Method = "caddy_auth" // a handler in front
	ByApplication Method = "verify"
	ByHandoff     Method = "handoff" // the application that answered the request
)

// Grants are the patterns that a credential allows by verb, beside the rules.
type Grants struct {
	patterns map[string][]channel.Pattern
}

// GrantsClaim is the name of the claim that has grants.
const GrantsClaim = "evstream"

// ReadGrants reads the claim with grants: {"subscribe":["a/**"]}. What it does not
// understand is an error, because it may have been meant to allow less.
func ReadGrants(claim any) (*Grants, error) {
	byVerb, ok := claim.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the claim %q is not an object of verbs", GrantsClaim)
	}
	g := &Grants{patterns: make(map[string][]channel.Pattern, len(byVerb))}
	for verb, value := range byVerb {
		if verb == Everything || !slices.Contains(Verbs(), verb) {
			return nil, fmt.Errorf("the claim %q has the verb %q", GrantsClaim, problem.Clip(verb))
		}
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("the claim %q has no list of patterns for %s", GrantsClaim, verb)
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return nil, fmt.Errorf("the claim %q has a pattern for %s that is not a string", GrantsClaim, verb)
			}
			p, err := channel.ParsePattern(s)
			if err != nil {
				return nil, fmt.Errorf("the claim %q: %s: %w", GrantsClaim, verb, err)
			}
			g.patterns[verb] = append(g.patterns[verb], p)
		}
	}
	return g, nil
}

// Anonymous reports whether nothing is known of the caller.
func (c *Caller) Anonymous() bool {
	return !c.Admin && c.Name == "" && c.User == "" && c.TokenID == "" && c.Claims == nil
}

// Identity is a key that tells callers apart, for what is remembered or counted of
// each; "" where the caller is anonymous. Each kind of caller has a prefix of its
// own, so that no user has the identity of a bearer. A caller of whom nothing but
// claims is known has a digest of these: those with the same claims are the same.
// With a ticket it is that of the credential which the ticket was given for.
func (c *Caller) Identity() string {
	switch {
	case c.Admin:
		return "admin"
	case c.Name != "":
		return "bearer:" + c.Name
	case c.User != "":
		return "user:" + c.User
	case c.Parent != "":
		return "token:" + c.Parent
	case c.TokenID != "" && c.Method != ByTicket:
		return "token:" + c.TokenID
	case c.Claims != nil:
		return "claims:" + c.claimsDigest()
	}
	return ""
}

// claimsDigest is a digest of the claims, but for those that say when: they differ
// from one credential of a caller to the next.
func (c *Caller) claimsDigest() string {
	lasting := maps.Clone(c.Claims)
	for _, name := range [...]string{"exp", "iat", "nbf"} {
		delete(lasting, name)
	}
	text, err := json.Marshal(lasting) // sorts the names
	if err != nil {
		text = fmt.Append(nil, lasting) // claims that were read from JSON have no error
	}
	digest := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// String names the caller in errors and logs.
func (c *Caller) String() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.User != "":
		return fmt.Sprintf("user %q", problem.Clip(c.User))
	case !c.Anonymous():
		return "the bearer of the token"
	}
	return Anyone
}

// TicketUse is a ticket that opens a stream.
type TicketUse struct {
	ID    string
	Owner string    // whose tickets are bounded together; "": only with all others
	Open  time.Time // the first use must be before
	End   time.Time // later uses must be before
}
