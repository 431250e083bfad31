package broker

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// Unlimited lifts a bound. Zero does not: it is an error.
const Unlimited = math.MaxInt

// Policy bounds what a channel keeps. An event is dropped when it is over any of
// the bounds.
type Policy struct {
	// Events bounds the number of events. 0 keeps none: readers get the events
	// that are published while they are connected, and one that resumes after
	// it missed an event gets a gap.
	Events int
	// Age bounds the age of an event. 0 is no bound.
	Age time.Duration
	// Bytes bounds the memory of the channel's history.
	Bytes int
}

// Rule gives the channels that match Pattern a policy of their own.
type Rule struct {
	Pattern string
	Policy  Policy
	State   StatePolicy
}

// Config is what a Broker needs. Every bound must be above zero.
type Config struct {
	// History is the policy of a channel that no rule matches.
	History Policy
	// State is the state policy of such channels.
	State StatePolicy
	// Rules are tried in order; the first match wins.
	Rules []Rule
	// MaxBytes bounds the memory of all histories together. Over it, the
	// largest history drops its oldest events first.
	MaxBytes int
	// MaxChannels bounds the channels in memory. Over it, the channel without
	// readers that was published to longest ago is dropped. As many names that
	// were not published to may be read besides.
	MaxChannels int
	// MaxPatterns bounds the distinct wildcard patterns that are read, other than
	// those that end in their only wildcard: "a/b/*" and "a/b/**" count among the
	// names that are read.
	MaxPatterns int
	// Share is how much of each of the broker's tables one Owner may fill, in
	// percent: channels, names and patterns that are read, values, idempotency
	// keys, memory. 100 is all of it.
	Share int
	// MaxSubscriptions bounds the readers of the broker.
	MaxSubscriptions int
	// MaxSubscribers bounds the readers of one channel or pattern.
	MaxSubscribers int
	// MaxSubscriptionChannels bounds the channels and patterns of one reader.
	MaxSubscriptionChannels int
	// MaxSubscriptionPatterns bounds the wildcard patterns among them.
	MaxSubscriptionPatterns int
	// MaxEvent bounds the data of one event, in bytes.
	MaxEvent int
	// MaxStates bounds the number of channels that have a value, MaxStateBytes
	// the size of all values and of the names of their channels. A write that
	// would exceed one is refused.
	MaxStates     int
	MaxStateBytes int
	// Logger receives the broker's log. Nil is slog.Default.
	Logger *slog.Logger
}

// DefaultConfig is a configuration to start from.
func DefaultConfig() Config {
	return Config{
		History:                 Policy{Events: 1000, Age: time.Hour, Bytes: 16 << 20},
		MaxBytes:                256 << 20,
		MaxChannels:             100_000,
		MaxPatterns:             1000,
		Share:                   10,
		MaxSubscriptions:        50_000,
		MaxSubscribers:          Unlimited,
		MaxSubscriptionChannels: 100,
		MaxSubscriptionPatterns: 10,
		MaxEvent:                256 << 10,
		MaxStates:               100_000,
		MaxStateBytes:           64 << 20,
	}
}

// MinBytes is the lowest value that MaxBytes and Policy.Bytes may have.
const MinBytes = 4 << 10

// digest is a hash of the policies, and of the rules by which channels have them.
func (c *Config) digest() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%v", c.History)
	for _, r := range c.Rules {
		_, _ = fmt.Fprintf(h, " %s %v", r.Pattern, r.Policy)
	}
	return h.Sum64()
}

// validate reports the first impossible value.
func (c *Config) validate() error {
	for _, l := range []struct {
		name  string
		value int
		least int
	}{
		{"the total size of histories", c.MaxBytes, MinBytes},
		{"the number of channels", c.MaxChannels, 1},
		{"the number of patterns", c.MaxPatterns, 1},
		{"the number of subscriptions", c.MaxSubscriptions, 1},
		{"the number of subscribers of a channel", c.MaxSubscribers, 1},
		{"the number of channels of a subscription", c.MaxSubscriptionChannels, 1},
		{"the number of patterns of a subscription", c.MaxSubscriptionPatterns, 1},
		{"the size of an event", c.MaxEvent, 1},
		{"the number of values", c.MaxStates, 1},
		{"the total size of values", c.MaxStateBytes, 1},
	} {
		if l.value < l.least {
			return fmt.Errorf("the bound on %s must be at least %d, not %d", l.name, l.least, l.value)
		}
	}
	if c.Share < 1 || c.Share > 100 {
		return fmt.Errorf("the share of one owner must be from 1 to 100 percent, not %d", c.Share)
	}
	if err := c.History.validate(); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := c.State.Validate(); err != nil {
		return err
	}
	for _, r := range c.Rules {
		if _, err := channel.ParsePattern(r.Pattern); err != nil {
			return err
		}
		if err := r.Policy.validate(); err != nil {
			return fmt.Errorf("history of %s: %w", r.Pattern, err)
		}
		if err := r.State.Validate(); err != nil {
			return fmt.Errorf("state of %s: %w", r.Pattern, err)
		}
	}
	return nil
}

func (p Policy) validate() error {
	switch {
	case p.Events < 0:
		return fmt.Errorf("the number of events must not be negative, not %d", p.Events)
	case p.Age != 0 && p.Age < time.Millisecond:
		return fmt.Errorf("the age of an event must be at least 1ms, not %s", p.Age)
	case p.Bytes < MinBytes:
		return fmt.Errorf("the size must be at least %d bytes, not %d", MinBytes, p.Bytes)
	}
	return nil
}
