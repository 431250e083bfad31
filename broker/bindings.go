package broker

import (
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// A value may be bound to several sessions: it is removed when the last of them has
// ended. The names of the sessions are kept in one string, separated by spaces, so that
// a value that is bound to none, or to one, takes no more memory for it.

// MaxBindings is how many sessions a value may be bound to.
const MaxBindings = 64

// ErrTooManyBindings refuses to bind a value to one more session than MaxBindings.
var ErrTooManyBindings = errkind.New("conflict", "", "the value is bound to 64 sessions already, which is the most")

// bind adds sessions to those that a value is bound to.
func bind(bound, sessions string) (string, error) {
	if bound == sessions {
		return bound, nil
	}
	names := strings.Fields(bound)
	for session := range strings.FieldsSeq(sessions) {
		if !slices.Contains(names, session) {
			names = append(names, session)
		}
	}
	if len(names) > MaxBindings {
		return "", ErrTooManyBindings
	}
	return strings.Join(names, " "), nil
}

// unbind takes a session away from those that a value is bound to. It is false if the
// value is not bound to that.
func unbind(bound, session string) (rest string, ok bool) {
	names := strings.Fields(bound)
	i := slices.Index(names, session)
	if i < 0 {
		return bound, false
	}
	return strings.Join(slices.Delete(names, i, i+1), " "), true
}
