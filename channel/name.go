// Package channel knows the names of channels, the names beneath them, and the
// wildcard patterns that select them. It has no state, and all of it may be used
// concurrently.
package channel

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// MaxLen bounds a name and a pattern, in bytes.
const MaxLen = 255

// ErrName is wrapped by every error about a name or a pattern.
var ErrName error = &nameError{"not a channel name"}

type nameError struct{ text string }

func (e *nameError) Error() string { return e.text }

// ProblemKind is the kind of problem of RFC 9457 that a client is told.
func (e *nameError) ProblemKind() string { return "bad-channel" }

// nameChars are the bytes that are allowed in a segment.
var nameChars = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-:@!$'()=+&") {
		t[c] = true
	}
	return t
}()

// Check reports why s is not the name of a channel: segments of
// A-Z a-z 0-9 . _ ~ - : @ ! $ ' ( ) = + & split by "/", 1 to 255 bytes. The
// error wraps ErrName.
func Check(s string) error { return checkSegments(s, "") }

// CheckTarget reports why s cannot be published to. A target is the name of a
// channel, or a name beneath: the name of a channel and a final "/". The error
// wraps ErrName.
func CheckTarget(s string) error {
	return checkSegments(strings.TrimSuffix(s, "/"), "")
}

// IsBeneath reports whether s is a name beneath: one that ends in "/", and
// reaches a channel and every channel beneath it.
func IsBeneath(s string) bool { return strings.HasSuffix(s, "/") }

// Reaches reports whether the name beneath reaches the channel name: "a/"
// reaches "a" and "a/b".
func Reaches(beneath, name string) bool {
	return strings.HasPrefix(name, beneath) || beneath == name+"/"
}

// Reaching iterates over the names beneath that reach the channel name, the
// longest first: "a/b/" and "a/" for "a/b".
func Reaching(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(name + "/") {
			return
		}
		for i := len(name) - 1; i > 0; i-- {
			if name[i] == '/' && !yield(name[:i+1]) {
				return
			}
		}
	}
}

// checkSegments reports why s is not a name in which the bytes of also are
// allowed, too.
func checkSegments(s, also string) error {
	if s == "" || len(s) > MaxLen {
		return fmt.Errorf("%w: %q: a name has 1 to %d bytes", ErrName, clip(s), MaxLen)
	}
	for i, segment := range strings.Split(s, "/") {
		switch {
		case segment == "" && i == 0:
			return fmt.Errorf("%w: %q: a name does not begin with /", ErrName, s)
		case segment == "":
			return fmt.Errorf("%w: %q: a segment is empty", ErrName, s)
		case segment == "." || segment == "..":
			return fmt.Errorf("%w: %q: a segment is %q", ErrName, s, segment)
		case i == 0 && segment[0] == '_':
			return fmt.Errorf("%w: %q: names that begin with _ belong to the hub", ErrName, s)
		}
		for j := range len(segment) {
			if c := segment[j]; !nameChars[c] && strings.IndexByte(also, c) < 0 {
				return fmt.Errorf("%w: %q: %q is not allowed, only A-Z a-z 0-9 . _ ~ - : @ ! $ ' ( ) = + & and / between segments", ErrName, s, firstRune(segment[j:]))
			}
		}
	}
	return nil
}

// firstRune is the whole first rune of s, or its first byte, as a string, if that is no
// UTF-8.
func firstRune(s string) any {
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 {
		return s[:1]
	}
	return r
}

// clip shortens s, but not in the middle of a rune.
func clip(s string) string {
	most := 64
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
