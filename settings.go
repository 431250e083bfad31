package evstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// defaultBroker is the name of the broker of those who name none.
const defaultBroker = "default"

// defaultMaxBody is the size of a publish body, in bytes.
const defaultMaxBody = 1 << 20

// maxDuration bounds how streams behave: what is added to it is a duration still.
const maxDuration = 10 * 365 * 24 * time.Hour

// brokerSettings is a BrokerConfig with its defaults filled in: all that can
// change while the broker runs.
type brokerSettings struct {
	broker        broker.Config
	maxPerAddress int

	maxPerUser                             int
	connectRate, publishRate, publishBytes Rate
	channels                               channelRules // only once provisioned: they are read from files
	adapter                                Adapter      // only once provisioned
}

// settings fills in the defaults and reports the first impossible value.
func (c *BrokerConfig) settings() (brokerSettings, error) {
	def := broker.DefaultConfig()
	s := brokerSettings{
		maxPerAddress: c.MaxConnectionsPerIP.or(200),
		maxPerUser:    c.MaxConnectionsPerUser.or(int(Unlimited)),
		connectRate:   c.ConnectRate.or(defaultConnectRate),
		publishRate:   c.PublishRate.or(unlimitedRate),
		publishBytes:  c.PublishBytes.or(unlimitedRate),
	}
	s.broker = broker.Config{
		MaxBytes:                c.MaxHistory.or(def.MaxBytes),
		MaxChannels:             c.MaxChannels.or(def.MaxChannels),
		MaxPatterns:             c.MaxPatterns.or(def.MaxPatterns),
		MaxSubscriptions:        c.MaxConnections.or(def.MaxSubscriptions),
		MaxSubscribers:          c.MaxSubscribers.or(def.MaxSubscribers),
		MaxSubscriptionChannels: c.MaxSessionChannels.or(def.MaxSubscriptionChannels),
		MaxSubscriptionPatterns: c.MaxSessionPatterns.or(def.MaxSubscriptionPatterns),
		MaxEvent:                c.MaxEvent.or(def.MaxEvent),
		MaxStates:               c.MaxStates.or(def.MaxStates),
		MaxStateBytes:           c.MaxStateBytes.or(def.MaxStateBytes),
		Logger:                  logger,
	}
	if s.broker.MaxBytes < broker.MinBytes {
		return s, fmt.Errorf("max_history must be at least %d bytes, not %d", broker.MinBytes, s.broker.MaxBytes)
	}
	var err error
	if s.broker.History, err = c.History.policy(def.History); err != nil {
		return s, fmt.Errorf("history: %w", err)
	}
	inherited := s.broker.History
	if inherited.Events == 0 {
		inherited = def.History
	}
	seen := make([]string, 0, len(c.Channels))
	for _, ch := range c.Channels {
		if _, err := broker.ParsePattern(ch.Pattern); err != nil {
			return s, fmt.Errorf("channel: %w", err)
		}
		if slices.Contains(seen, ch.Pattern) {
			return s, fmt.Errorf("channel %s is configured twice", ch.Pattern)
		}
		seen = append(seen, ch.Pattern)
		if err := ch.checkTypes(); err != nil {
			return s, fmt.Errorf("channel %s: %w", ch.Pattern, err)
		}
		state, err := ch.statePolicy()
		if err != nil {
			return s, fmt.Errorf("channel %s: %w", ch.Pattern, err)
		}
		if ch.History == nil {
			// Shields the channel from the patterns after it.
			s.broker.Rules = append(s.broker.Rules, broker.Rule{Pattern: ch.Pattern, Policy: s.broker.History, State: state})
			continue
		}
		policy, err := ch.History.policy(inherited)
		if err != nil {
			return s, fmt.Errorf("channel %s: history: %w", ch.Pattern, err)
		}
		s.broker.Rules = append(s.broker.Rules, broker.Rule{Pattern: ch.Pattern, Policy: policy, State: state})
	}
	return s, nil
}

// policy fills in what h leaves out. A nil History leaves out everything.
func (h *History) policy(def broker.Policy) (broker.Policy, error) {
	if h == nil {
		return def, nil
	}
	if h.Off {
		if h.Events != 0 || h.Age != 0 || h.Bytes != 0 {
			return broker.Policy{}, errors.New("off, and bounds on what is kept, cannot stand together")
		}
		return broker.Policy{Events: 0, Bytes: def.Bytes}, nil
	}
	p := broker.Policy{Events: h.Events.or(def.Events), Age: def.Age, Bytes: h.Bytes.or(def.Bytes)}
	switch age := time.Duration(h.Age); {
	case age == -1:
		p.Age = 0
	case age > 0 && age < time.Millisecond || age < 0:
		return p, fmt.Errorf("the age must be at least 1ms, or -1 for unlimited, not %s", age)
	case age > 0:
		p.Age = age
	}
	if p.Bytes < broker.MinBytes {
		return p, fmt.Errorf("the size must be at least %d bytes, not %d", broker.MinBytes, p.Bytes)
	}
	return p, nil
}

// settings fills in the defaults of how streams behave and reports the first
// impossible value.
func (h *Handler) settings() (streamSettings, error) {
	s := streamSettings{heartbeatEvent: h.HeartbeatEvent, attached: h.Delivery == "attached"}
	if h.Delivery != "" && h.Delivery != "auto" && h.Delivery != "attached" {
		return s, fmt.Errorf("delivery must be \"auto\" or \"attached\", not %q", h.Delivery)
	}
	for _, d := range []struct {
		name   string
		value  caddy.Duration
		to     *time.Duration
		def    time.Duration
		least  time.Duration
		most   time.Duration
		lifted string // what -1 means; empty: it is not allowed
	}{
		{"heartbeat", h.Heartbeat, &s.heartbeat, 15 * time.Second, time.Second, maxDuration, "none"},
		{"retry_min", h.RetryMin, &s.retryMin, 2 * time.Second, time.Millisecond, sse.MaxRetry * time.Millisecond, ""},
		{"retry_max", h.RetryMax, &s.retryMax, 5 * time.Second, time.Millisecond, sse.MaxRetry * time.Millisecond, ""},
		{"write_timeout", h.WriteTimeout, &s.writeTimeout, 10 * time.Second, time.Millisecond, maxDuration, ""},
		{"max_age", h.MaxAge, &s.maxAge, 0, time.Second, maxDuration, "unlimited"},
		{"drain", h.Drain, &s.drain, 5 * time.Second, time.Millisecond, maxDuration, ""},
		{"on_reload_drain", h.OnReloadDrain, &s.onReloadDrain, 0, time.Millisecond, maxDuration, ""},
	} {
		value := time.Duration(d.value)
		switch {
		case value == 0:
			*d.to = d.def
		case value == -1 && d.lifted != "":
			*d.to = 0
		case value < d.least && d.lifted != "":
			return s, fmt.Errorf("%s must be at least %s, or -1 for %s, not %s", d.name, d.least, d.lifted, value)
		case value < d.least:
			return s, fmt.Errorf("%s must be at least %s, not %s", d.name, d.least, value)
		case value > d.most:
			return s, fmt.Errorf("%s must be at most %s, not %s", d.name, d.most, value)
		default:
			*d.to = value
		}
	}
	// One of the two alone moves the other's default.
	if h.RetryMax == 0 {
		s.retryMax = max(s.retryMax, s.retryMin)
	}
	if h.RetryMin == 0 {
		s.retryMin = min(s.retryMin, s.retryMax)
	}
	if s.retryMin > s.retryMax {
		return s, fmt.Errorf("retry_min must not be above retry_max, but %s is above %s", s.retryMin, s.retryMax)
	}
	if h.HeartbeatEvent && s.heartbeat == 0 {
		return s, errors.New("heartbeat_event needs a heartbeat, which is off")
	}
	return s, nil
}

// checkMount reports why s cannot be what channels lie beneath.
func checkMount(s string) error {
	if s == "" {
		return nil
	}
	bad := !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "*?#%{}\\ ")
	for segment := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		bad = bad || segment == "" || segment == "." || segment == ".."
	}
	if bad {
		return fmt.Errorf("mount must be a path such as /live, without a final slash, wildcards or escapes, not %q", s)
	}
	return nil
}

// checkBrokerName reports why s cannot name a broker: a name is a value of
// metrics and of URLs.
func checkBrokerName(s string) error {
	ok := s != "" && len(s) <= 64
	for i := range len(s) {
		c := s[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("%q cannot name a broker: a name has 1 to 64 of A-Z a-z 0-9 - . _", s)
	}
	return nil
}
