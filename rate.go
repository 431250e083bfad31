package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Rate bounds how often something may happen: so many a second, after as many
// at once as a burst has. The zero Rate is the field's default.
type Rate struct {
	// How many a second, on average; of sizes, how many bytes. Required, unless
	// it is unlimited.
	PerSecond float64 `json:"per_second,omitempty"`
	// How many at once after a quiet time. Default: what two seconds bring.
	Burst int `json:"burst,omitempty"`
	// No bound; in JSON, the string "unlimited" in place of the rate.
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
		return errors.New("a rate of nothing would refuse everything: write \"unlimited\" to lift it")
	case r.Unlimited:
		return nil
	case math.IsNaN(r.PerSecond) || r.PerSecond < 0.001 || r.PerSecond > maxRate:
		return fmt.Errorf("a rate is from 0.001 to %d a second, not %v", maxRate, r.PerSecond)
	case r.Burst < 0 || r.Burst > maxRate:
		return fmt.Errorf("a burst is from 1 to %d, not %d", maxRate, r.Burst)
	}
	return nil
}

// maxRate is a nanosecond each.
const maxRate = 1_000_000_000

// or fills in a rate that was left out, and a burst.
func (r Rate) or(def Rate) Rate {
	if r.IsZero() {
		r = def
	}
	if !r.Unlimited && r.Burst == 0 {
		r.Burst = max(1, int(min(2*r.PerSecond, maxRate)))
	}
	return r
}

// maxMeters bounds the meters of one table.
const maxMeters = 100_000

// meters hold everybody to a rate, each by a key of their own.
//
// A meter is one time: that at which it is empty again. What comes moves it on
// by its share of a second, and may as long as the meter is not further ahead
// than a burst is long. What is more than a burst passes an empty meter only,
// and is paid for by the time after it.
//
// The table is bounded. When it is full, newcomers take the place of meters
// that are empty, which say nothing that a new one would not; while there is
// none, all newcomers share one. Who is over the rate is never forgotten.
type meters struct {
	mu     sync.Mutex // guards what follows
	rate   Rate
	most   int
	empty  map[uint64]time.Time // by key, when it is
	shared time.Time            // of the newcomers for whom there is no room
}

// seed keeps the keys of a meter from being chosen so that they meet.
var seed = maphash.MakeSeed()

// configure sets the rate. Who is over the old one has to wait as before.
func (m *meters) configure(r Rate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate = r
	if r.Unlimited {
		m.empty, m.shared = nil, time.Time{}
	}
}

// take counts n for a key, and reports whether they may pass; those that may
// not are not counted. n may be 0, to ask whether anything may.
func (m *meters) take(key string, n int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rate.Unlimited || m.rate.IsZero() {
		return true
	}
	k := maphash.String(seed, key)
	at, known := m.empty[k]
	own := known || m.room(now)
	if !own {
		at = m.shared
	}
	each := float64(time.Second) / m.rate.PerSecond
	burst := time.Duration(float64(m.rate.Burst) * each)
	if at.Before(now) {
		at = now
	}
	ahead := at.Sub(now)
	// At most a burst is asked for at once: what is more could never pass.
	cost := time.Duration(min(float64(n)*each, math.MaxInt64/4))
	if ahead+min(max(cost, time.Duration(each)), burst) > burst {
		return false
	}
	switch at = at.Add(cost); {
	case n == 0:
	case !own:
		m.shared = at
	default:
		if m.empty == nil {
			m.empty = make(map[uint64]time.Time)
		}
		m.empty[k] = at
	}
	return true
}

// room reports whether there is room for one more meter, and looks at a few of
// the others for it.
func (m *meters) room(now time.Time) bool {
	if m.most == 0 {
		m.most = maxMeters
	}
	if len(m.empty) < m.most {
		return true
	}
	looks := 8
	for k, at := range m.empty { // in an order that nobody knows
		if !at.After(now) {
			delete(m.empty, k)
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}

// parseRate reads the rate that follows, and its burst.
func parseRate(d *caddyfile.Dispenser, parse func(string) (Limit, error), to *Rate) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[0] == "unlimited" {
		return d.Errf("%s is how many a second, and how many at once: %s 100 200; or %s unlimited", name, name, name)
	}
	var limits [2]Limit
	for i, arg := range args {
		limit, err := parse(arg)
		if err != nil {
			return d.Errf("%s: %w", name, err)
		}
		limits[i] = limit
	}
	if args[0] == "unlimited" {
		*to = Rate{Unlimited: true}
		return nil
	}
	*to = Rate{PerSecond: float64(limits[0]), Burst: int(limits[1])}
	if err := to.validate(); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	return nil
}
