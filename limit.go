package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/ratelimit"
)

// Limit bounds a count or a size. In JSON it is a number above zero or the
// string "unlimited". The zero Limit stands for the field's default.
type Limit int

// Unlimited is the Limit that bounds nothing.
const Unlimited Limit = broker.Unlimited

// or returns l, or def if l was left out.
func (l Limit) or(def int) int {
	if l == 0 {
		return def
	}
	return int(l)
}

// UnmarshalJSON implements json.Unmarshaler. Zero is an error: it might be meant
// as unlimited.
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

// Share is a part in percent. In JSON it is a number from 1 to 100 or the string
// "unlimited". The zero Share stands for the field's default.
type Share int

// or returns s, or def if s was left out.
func (s Share) or(def int) int {
	if s == 0 {
		return def
	}
	return int(s)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Share) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil && word == "unlimited" {
		*s = 100
		return nil
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 || n > 100 {
		return fmt.Errorf("a share is a number from 1 to 100, in percent, or \"unlimited\", not %s", b)
	}
	*s = Share(n)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (s Share) MarshalJSON() ([]byte, error) {
	if s == 100 {
		return []byte(`"unlimited"`), nil
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// parseShare reads a share such as 10% from a Caddyfile.
func parseShare(s string) (Share, error) {
	if s == "unlimited" {
		return 100, nil
	}
	digits, ok := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q is not a share from 1%% to 100%%, such as 10%%, nor \"unlimited\"", s)
	}
	return Share(n), nil
}

// Rate bounds how often something may happen: an average rate, and a burst. The
// zero Rate stands for the field's default.
type Rate struct {
	// How many a second, on average; of publish_bytes, how many bytes. From 0.001
	// to 1000000000. Required, unless the rate is "unlimited".
	PerSecond float64 `json:"per_second,omitempty"`
	// How many at once after a quiet time; at most 1000000000. Default: twice the
	// rate, at least 1.
	Burst int `json:"burst,omitempty"`
	// No limit; in JSON, the string "unlimited" in place of the object.
	Unlimited bool `json:"-"`
}

// UnmarshalJSON reads {"per_second", "burst"} or the string "unlimited".
func (r *Rate) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		if word != "unlimited" {
			return fmt.Errorf("a rate is {\"per_second\": 100, \"burst\": 200} or \"unlimited\", not %q", word)
		}
		*r = Rate{Unlimited: true}
		return nil
	}
	type plain Rate // without this method
	var p plain
	if err := caddy.StrictUnmarshalJSON(b, &p); err != nil {
		return fmt.Errorf("a rate is {\"per_second\": 100, \"burst\": 200} or \"unlimited\": %w", err)
	}
	*r = Rate(p)
	return r.validate()
}

// MarshalJSON implements json.Marshaler.
func (r Rate) MarshalJSON() ([]byte, error) {
	if r.Unlimited {
		return []byte(`"unlimited"`), nil
	}
	type plain Rate
	return json.Marshal(plain(r))
}

// IsZero reports whether the rate was left out.
func (r Rate) IsZero() bool { return r == Rate{} }

func (r *Rate) validate() error {
	switch {
	case r.IsZero():
		return errors.New("a rate of zero would refuse everything; for no limit write \"unlimited\"")
	case r.Unlimited:
		return nil
	case math.IsNaN(r.PerSecond) || r.PerSecond < 0.001 || r.PerSecond > ratelimit.Max:
		return fmt.Errorf("a rate is from 0.001 to %d a second, not %v", ratelimit.Max, r.PerSecond)
	case r.Burst < 0 || r.Burst > ratelimit.Max:
		return fmt.Errorf("a burst is from 1 to %d, not %d", ratelimit.Max, r.Burst)
	}
	return nil
}

// or returns r, or def if r was left out, with the default burst filled in.
func (r Rate) or(def Rate) ratelimit.Rate {
	if r.IsZero() {
		r = def
	}
	if !r.Unlimited && r.Burst == 0 {
		r.Burst = max(1, int(min(2*r.PerSecond, ratelimit.Max)))
	}
	return ratelimit.Rate(r)
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
