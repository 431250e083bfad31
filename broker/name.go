package broker

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNameLen bounds the name of a channel and of a pattern, in bytes.
const MaxNameLen = 255

// ErrName is wrapped by every error about a name or a pattern.
var ErrName = errors.New("not a channel name")

// nameChars has what a segment may be made of.
var nameChars = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-:@!$'()=+&") {
		t[c] = true
	}
	return t
}()

// CheckName reports why s is not the name of a channel: segments of
// A-Z a-z 0-9 . _ ~ - : @ ! $ ' ( ) = + & split by "/", 1 to 255 bytes.
func CheckName(s string) error { return checkSegments(s, "") }

// CheckTarget is CheckName for the target of a publish, which may also be a
// name beneath: a channel's name and a final "/".
func CheckTarget(s string) error {
	return checkSegments(strings.TrimSuffix(s, "/"), "")
}

// IsBeneath reports whether s names what lies beneath a channel.
func IsBeneath(s string) bool { return strings.HasSuffix(s, "/") }

func checkSegments(s, also string) error {
	if s == "" || len(s) > MaxNameLen {
		return fmt.Errorf("%w: %q: a name has 1 to %d bytes", ErrName, clip(s), MaxNameLen)
	}
	for i, segment := range strings.Split(s, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w: %q: a segment is empty", ErrName, s)
		case segment == "." || segment == "..":
			return fmt.Errorf("%w: %q: a segment is %q", ErrName, s, segment)
		case i == 0 && segment[0] == '_':
			return fmt.Errorf("%w: %q: names that begin with _ belong to the hub", ErrName, s)
		}
		for j := range len(segment) {
			if c := segment[j]; !nameChars[c] && strings.IndexByte(also, c) < 0 {
				return fmt.Errorf("%w: %q: %q is not allowed, only A-Z a-z 0-9 . _ ~ - : @ ! $ ' ( ) = + & and / between segments", ErrName, s, c)
			}
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
