// Package preconditions reads the preconditions of a request for a channel's value.
package preconditions

import (
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

// Check refuses a write with a condition that is not looked at: what the client believes
// to be guarded would be done in any case. value says that the write is that of a
// channel's value, which Of reads the conditions of.
func Check(r *http.Request, value bool) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	switch {
	case r.Header["If-Unmodified-Since"] != nil:
		return problem.BadPrecondition.Because("If-Unmodified-Since is not served: nothing here has a date; a channel's value has a version, for If-Match")
	case r.Header["Content-Range"] != nil:
		return problem.BadPrecondition.Because("Content-Range is not served: a body is all of what is written")
	case value:
		return nil
	case r.Header["If-Match"] != nil, r.Header["If-None-Match"] != nil:
		return problem.BadPrecondition.Because("If-Match and If-None-Match are conditions on a channel's value, for PUT, PATCH and DELETE of it; this request can have none")
	}
	return nil
}

// Of reads If-Match and If-None-Match.
func Of(r *http.Request) (c broker.Condition, err error) {
	match, none := r.Header["If-Match"], r.Header["If-None-Match"]
	switch {
	case match != nil && none != nil:
		return c, problem.BadPrecondition.Because("If-Match and If-None-Match do not go together here; send one of them")
	case match != nil:
		all, versions, err := versionsOf("If-Match", match, false)
		if c = (broker.Condition{Kind: broker.IfVersion, Versions: versions}); all {
			c = broker.Condition{Kind: broker.IfPresent}
		}
		return c, err
	case none != nil:
		all, versions, err := versionsOf("If-None-Match", none, true)
		if c = (broker.Condition{Kind: broker.IfNotVersion, Versions: versions}); all {
			c = broker.Condition{Kind: broker.IfAbsent}
		}
		return c, err
	}
	return c, nil
}

// maxTags bounds the entity tags of one precondition.
const maxTags = 100

// versionsOf parses entity tags: all is true for *. Tags that cannot be a version are
// left out, because none of the hub's can match them, and weak ones unless weak is set.
func versionsOf(name string, lines []string, weak bool) (all bool, versions []broker.ID, err error) {
	n := 0
	for rest := strings.TrimSpace(strings.Join(lines, ",")); rest != ""; n++ {
		if rest == "*" && n == 0 {
			return true, nil, nil
		}
		tag, isWeak := strings.CutPrefix(rest, "W/")
		tag, quoted := strings.CutPrefix(tag, `"`)
		text, after, ended := strings.Cut(tag, `"`)
		after = strings.TrimLeft(after, " \t")
		if !quoted || !ended || after != "" && after[0] != ',' || n == maxTags {
			return false, nil, problem.BadPrecondition.Because(`%s is * or up to %d versions in quotes, such as "1763687000123-0", as ETag gives them, not %s`, name, maxTags, problem.Clip(rest))
		}
		rest = strings.TrimLeft(strings.TrimPrefix(after, ","), " \t,")
		if version, ok := broker.ParseID(text); ok && (weak || !isWeak) {
			versions = append(versions, version)
		}
	}
	if n == 0 {
		return false, nil, problem.BadPrecondition.Because("%s is empty", name)
	}
	return false, versions, nil
}
