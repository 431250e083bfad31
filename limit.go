package evstream

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/evstream/caddy-evstream/broker"
)

// Limit bounds a count or a size. In JSON it is a number above zero or the
// string "unlimited"; left out, the field's default holds.
type Limit int

// Unlimited is the Limit that bounds nothing.
const Unlimited Limit = broker.Unlimited

// or returns l, or the default where l was left out.
func (l Limit) or(def int) int {
	if l == 0 {
		return def
	}
	return int(l)
}

// UnmarshalJSON refuses zero: what is meant is written out.
func (l *Limit) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		if word == "unlimited" {
			*l = Unlimited
			return nil
		}
		return fmt.Errorf("a limit is a number above zero or \"unlimited\", not %q", word)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 {
		return fmt.Errorf("a limit is a number above zero or \"unlimited\", not %s", b)
	}
	*l = Limit(n)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l == Unlimited {
		return []byte(`"unlimited"`), nil
	}
	return strconv.AppendInt(nil, int64(l), 10), nil
}

// parseCount reads a count from a Caddyfile.
func parseCount(s string) (Limit, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a number above zero or \"unlimited\"", s)
	}
	return Limit(n), nil
}

// parseSize reads a size such as 64KiB from a Caddyfile.
func parseSize(s string) (Limit, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n < 1 || n >= uint64(Unlimited) {
		return 0, fmt.Errorf("%q is not a size above zero, such as 64KiB, or \"unlimited\"", s)
	}
	return Limit(n), nil
}
