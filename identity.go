package evstream

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
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

	matched map[string]bool // the matchers of rules that match the request, by definition
}

// grants are the patterns that a credential allows by verb, beside the rules.
type grants struct {
	patterns map[string][]broker.Pattern
}

// identity tells callers apart where what they send is remembered.
func (c caller) identity() string {
	switch {
	case c.admin:
		return "admin"
	case c.name != "":
		return "bearer:" + c.name
	}
	return ""
}

func (c caller) String() string {
	if c.name == "" {
		return anyone
	}
	return c.name
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

// identify finds out who makes a request. No bearer is nobody; a wrong one is
// an error even where nobody would be allowed, because whoever sent it expects
// to be somebody. Other schemes are for the handlers in front, and so are all
// where no bearer is configured.
func (a *access) identify(r *http.Request) (caller, error) {
	if a.all {
		return caller{admin: true}, nil
	}
	values := r.Header["Authorization"]
	if len(a.bearers) == 0 || len(values) == 0 {
		return caller{}, nil
	}
	if len(values) > 1 {
		return caller{}, unauthorized.because("there is more than one Authorization header")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return caller{}, nil
	}
	digest := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	found := -1
	for i := range a.bearers { // all of them, so that time tells nothing
		equal := subtle.ConstantTimeCompare(digest[:], a.bearers[i].digest[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 {
		return caller{}, unauthorized.because("the bearer is not known here")
	}
	return caller{name: a.bearers[found].name}, nil
}
