package access

import "strings"

// Is reports whether the caller is one of those that a term names: "user:NAME", or
// "claim:NAME=VALUE", which has the meaning that a claim has in a rule.
func (c *Caller) Is(term string) bool {
	kind, what, _ := strings.Cut(term, ":")
	switch kind {
	case "user":
		return c.User != "" && c.User == what
	case "claim":
		name, value, _ := strings.Cut(what, "=")
		return value != "" && claimHas(c.Claims[name], value)
	}
	return false
}
