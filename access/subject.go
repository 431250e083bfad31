package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/internal/nearest"
)

// The "who" of rules, beside the names of bearers and of matchers.
const (
	Anyone   = "anyone" // with or without credentials
	AnyUser  = "user"   // authenticated as a user
	HasClaim = "claim"  // of a token, or of what an application says
)

// subject is whom a rule is about.
type subject struct {
	who     string // Anyone, AnyUser, HasClaim, or the name of a bearer
	claim   string
	value   string
	matcher string // the identity of a matcher; then who is "@" and its name
}

// includes reports whether the rule is about a caller.
func (p *subject) includes(who *Caller) bool {
	switch {
	case p.who == Anyone:
		return true
	case p.who == AnyUser:
		return who.User != ""
	case p.who == HasClaim:
		return claimHas(who.Claims[p.claim], p.value)
	case strings.HasPrefix(p.who, "@"):
		return p.matcher != "" && who.Matched[p.matcher]
	}
	return who.Name != "" && who.Name == p.who
}

// claimHas reports whether a claim is value, or a list that has it.
func claimHas(claim any, value string) bool {
	if list, ok := claim.([]any); ok {
		return slices.ContainsFunc(list, func(v any) bool {
			text, ok := claimText(v)
			return ok && text == value
		})
	}
	text, ok := claimText(claim)
	return ok && text == value
}

// subject reads whom a rule is about.
func (r *Rule) subject(bearers []string) (subject, error) {
	p := subject{who: r.Who, claim: r.Claim, value: r.Value, matcher: r.Matcher}
	if strings.HasPrefix(r.Who, "@") && p.matcher == "" {
		p.matcher = r.Who
	}
	switch {
	case r.Who == HasClaim && (r.Claim == "" || r.Value == ""):
		return p, errors.New("a rule for a claim has its name and its value: allow claim <name> <value> <what,...> <channels...>")
	case r.Who != HasClaim && (r.Claim != "" || r.Value != ""):
		return p, fmt.Errorf("a claim is given, but the rule is for %q", r.Who)
	case (r.Matcher != "" || r.Match != nil) && !strings.HasPrefix(r.Who, "@"):
		return p, fmt.Errorf("a matcher is given, but the rule is for %q, which does not begin with @", r.Who)
	case r.Who == "@":
		return p, errors.New("a matcher has a name after the @")
	case r.Who == Anyone, r.Who == AnyUser, r.Who == HasClaim, strings.HasPrefix(r.Who, "@"):
		return p, nil
	case slices.Contains(bearers, r.Who):
		return p, nil
	}
	return p, fmt.Errorf("%q is nobody: a rule allows %s%s", r.Who, known(bearers), nearest.Hint(r.Who, append([]string{Anyone, AnyUser, HasClaim}, bearers...)...))
}

// known lists who can stand in a rule.
func known(bearers []string) string {
	var s strings.Builder
	s.WriteString("anyone, user, claim <name> <value>, @<matcher>")
	if len(bearers) == 0 {
		s.WriteString(" or the name of a bearer, which \"bearer <name> <secret>\" declares")
	}
	for _, b := range bearers {
		s.WriteString(" or bearer ")
		s.WriteString(b)
	}
	return s.String()
}
