// Package audience reads who is to get an event.
package audience

import (
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Bounds of what one event can say.
const (
	maxSession = 255
	maxTerms   = broker.MaxFilter
	maxTerm    = broker.MaxTerm
)

// Set sets in an operation who gets its event: those of to, or everybody if there is
// none, but for those of except. Each is "session:ID", "user:NAME" or
// "claim:NAME=VALUE"; in except the id of a session can stand alone.
func Set(op *broker.Op, to, except []string) error {
	if n := len(to) + len(except); n > maxTerms {
		return problem.BadEvent.Because("to and except name %d of those who get the event or not, at most %d are allowed", n, maxTerms)
	}
	if len(to) == 0 && len(except) == 0 {
		return nil
	}
	var f broker.Filter
	for _, term := range to {
		if err := check("to", term); err != nil {
			return err
		}
		f.To = append(f.To, term)
	}
	for _, term := range except {
		if !hasKind(term) {
			if term == "" && len(except) == 1 {
				continue // as if it were not there
			}
			if !isSession(term) {
				return problem.BadEvent.Because("except is the id of a session, as evstream.open has it, in at most %d bytes, or session:ID, user:NAME or claim:NAME=VALUE, and %q can be none", maxSession, problem.Clip(term))
			}
			term = "session:" + term
		}
		if err := check("except", term); err != nil {
			return err
		}
		// One session alone is spelt as it always was, which all versions of a node know.
		if id, ok := strings.CutPrefix(term, "session:"); ok && op.Except == "" {
			op.Except = id
			continue
		}
		f.Except = append(f.Except, term)
	}
	if f.To != nil || f.Except != nil {
		op.Filter = &f
	}
	return nil
}

func hasKind(term string) bool {
	kind, _, ok := strings.Cut(term, ":")
	return ok && (kind == "session" || kind == "user" || kind == "claim")
}

func isSession(id string) bool { return len(id) <= maxSession && stream.MayBeID(id) }

// check reports why a term can name nobody.
func check(parameter, term string) error {
	kind, what, _ := strings.Cut(term, ":")
	bad := len(term) > maxTerm || !hasKind(term) || what == ""
	switch kind {
	case "session":
		bad = bad || !isSession(what)
	case "claim":
		name, value, _ := strings.Cut(what, "=")
		bad = bad || name == "" || value == ""
	}
	if bad {
		return problem.BadEvent.Because("%s is session:ID, user:NAME or claim:NAME=VALUE, in at most %d bytes, and %q can name nobody", parameter, maxTerm, problem.Clip(term))
	}
	return nil
}
