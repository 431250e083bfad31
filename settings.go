package evstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/hooks"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/sse"
)

// defaultBroker is the broker of handlers that name none.
const defaultBroker = "default"

// maxDuration bounds durations, so that sums cannot overflow time.Duration.
const maxDuration = 10 * 365 * 24 * time.Hour

// brokerSettings is a BrokerConfig with its defaults filled in: all that can
// change while the broker runs.
type brokerSettings struct {
	hub     hub.Config
	hooks   []hooks.Hook // only once provisioned
	adapter Adapter      // only once provisioned
	events  *caddyEvents
}

// Default rates.
var (
	defaultConnectRate = Rate{PerSecond: 100, Burst: 200}
	defaultRefusedRate = Rate{PerSecond: 20, Burst: 200}
	defaultReadRate    = Rate{PerSecond: 100, Burst: 1000}
	unlimitedRate      = Rate{Unlimited: true}
)

// settings fills in the defaults and reports the first invalid value. It leaves
// out what publishRules reads, because schemas are files.
func (c *BrokerConfig) settings() (*brokerSettings, error) {
	def := broker.DefaultConfig()
	s := &brokerSettings{hub: hub.Config{
		MaxPerAddress: c.MaxConnectionsPerIP.or(200),
		MaxPerUser:    c.MaxConnectionsPerUser.or(int(Unlimited)),
		ConnectRate:   c.ConnectRate.or(defaultConnectRate),
		RefusedRate:   c.RefusedRate.or(defaultRefusedRate),
		ReadRate:      c.ReadRate.or(defaultReadRate),
		PublishRate:   c.PublishRate.or(unlimitedRate),
		PublishBytes:  c.PublishBytes.or(unlimitedRate),
		Logger:        logger,
	}}
	s.hub.Broker = broker.Config{
		MaxBytes:                c.MaxHistory.or(def.MaxBytes),
		MaxChannels:             c.MaxChannels.or(def.MaxChannels),
		MaxPatterns:             c.MaxPatterns.or(def.MaxPatterns),
		Share:                   c.Share.or(def.Share),
		MaxSubscriptions:        c.MaxConnections.or(def.MaxSubscriptions),
		MaxSubscribers:          c.MaxSubscribers.or(def.MaxSubscribers),
		MaxSubscriptionChannels: c.MaxSessionChannels.or(def.MaxSubscriptionChannels),
		MaxSubscriptionPatterns: c.MaxSessionPatterns.or(def.MaxSubscriptionPatterns),
		MaxEvent:                c.MaxEvent.or(def.MaxEvent),
		MaxStates:               c.MaxStates.or(def.MaxStates),
		MaxStateBytes:           c.MaxStateBytes.or(def.MaxStateBytes),
		Logger:                  logger,
	}
	if s.hub.Broker.MaxBytes < broker.MinBytes {
		return s, fmt.Errorf("max_history must be at least %d bytes, not %d", broker.MinBytes, s.hub.Broker.MaxBytes)
	}
	var err error
	if s.hub.Broker.History, err = c.History.policy(def.History); err != nil {
		return s, fmt.Errorf("history: %w", err)
	}
	inherited := s.hub.Broker.History
	if inherited.Events == 0 {
		inherited = def.History
	}
	if s.hub.Presence, err = c.presenceRules(); err != nil {
		return s, err
	}
	seen := make([]string, 0, len(c.Channels))
	for _, ch := range c.Channels {
		if _, err := channel.ParsePattern(ch.Pattern); err != nil {
			return s, fmt.Errorf("channel: %w", err)
		}
		if slices.Contains(seen, ch.Pattern) {
			return s, fmt.Errorf("channel %s is configured twice", ch.Pattern)
		}
		seen = append(seen, ch.Pattern)
		if err := hub.CheckEventTypes(ch.EventTypes); err != nil {
			return s, fmt.Errorf("channel %s: %w", ch.Pattern, err)
		}
		state, err := ch.statePolicy()
		if err != nil {
			return s, fmt.Errorf("channel %s: %w", ch.Pattern, err)
		}
		if ch.History == nil {
			// So that no later pattern applies.
			s.hub.Broker.Rules = append(s.hub.Broker.Rules, broker.Rule{Pattern: ch.Pattern, Policy: s.hub.Broker.History, State: state})
			continue
		}
		policy, err := ch.History.policy(inherited)
		if err != nil {
			return s, fmt.Errorf("channel %s: history: %w", ch.Pattern, err)
		}
		s.hub.Broker.Rules = append(s.hub.Broker.Rules, broker.Rule{Pattern: ch.Pattern, Policy: policy, State: state})
	}
	return s, c.checkHooks()
}

// policy fills in what h leaves out. A nil History leaves out everything.
func (h *History) policy(def broker.Policy) (broker.Policy, error) {
	if h == nil {
		return def, nil
	}
	if h.Off {
		if h.Events != 0 || h.Age != 0 || h.Bytes != 0 {
			return broker.Policy{}, errors.New("off cannot be combined with events, age or bytes")
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

// settings fills in the defaults of streams and reports the first invalid value.
func (h *Handler) settings() (httpapi.Streams, error) {
	s := httpapi.Streams{HeartbeatEvent: h.HeartbeatEvent, Attached: h.Delivery == "attached"}
	if !slices.Contains([]string{"", "auto", "attached"}, h.Delivery) {
		return s, fmt.Errorf("delivery must be \"auto\" or \"attached\", not %q", h.Delivery)
	}
	for _, d := range []struct {
		name   string
		value  caddy.Duration
		to     *time.Duration
		def    time.Duration
		least  time.Duration
		most   time.Duration
		lifted string // what -1 means; "" if it is not allowed
	}{
		{"heartbeat", h.Heartbeat, &s.Heartbeat, 15 * time.Second, time.Second, maxDuration, "none"},
		{"retry_min", h.RetryMin, &s.RetryMin, 2 * time.Second, time.Millisecond, sse.MaxRetry * time.Millisecond, ""},
		{"retry_max", h.RetryMax, &s.RetryMax, 5 * time.Second, time.Millisecond, sse.MaxRetry * time.Millisecond, ""},
		{"write_timeout", h.WriteTimeout, &s.WriteTimeout, 10 * time.Second, time.Millisecond, maxDuration, ""},
		{"max_age", h.MaxAge, &s.MaxAge, 0, time.Second, maxDuration, "unlimited"},
		{"drain", h.Drain, &s.Drain, 5 * time.Second, time.Millisecond, maxDuration, ""},
		{"on_reload_drain", h.OnReloadDrain, &s.OnReloadDrain, 0, time.Millisecond, maxDuration, ""},
	} {
		value := time.Duration(d.value)
		switch {
		case value == 0:
			*d.to = d.def
		case value == -1 && d.lifted == "none":
			*d.to = -1
		case value == -1 && d.lifted != "":
			*d.to = 0
		case value < d.least && d.lifted != "":
			return s, fmt.Errorf("%s must be at least %s, or -1 for %s (in a Caddyfile, %s), not %s", d.name, d.least, d.lifted, strings.Replace(d.lifted, "none", "off", 1), value)
		case value < d.least:
			return s, fmt.Errorf("%s must be at least %s, not %s", d.name, d.least, value)
		case value > d.most:
			return s, fmt.Errorf("%s must be at most %s, not %s", d.name, d.most, value)
		default:
			*d.to = value
		}
	}
	// If only one is set, the other's default gives way.
	if h.RetryMax == 0 {
		s.RetryMax = max(s.RetryMax, s.RetryMin)
	}
	if h.RetryMin == 0 {
		s.RetryMin = min(s.RetryMin, s.RetryMax)
	}
	if s.RetryMin > s.RetryMax {
		return s, fmt.Errorf("retry_min must not be above retry_max, but %s is above %s", s.RetryMin, s.RetryMax)
	}
	if h.HeartbeatEvent && s.Heartbeat < 0 {
		return s, errors.New("heartbeat_event needs a heartbeat, which is off")
	}
	return s, nil
}

// publishRules returns the rules of what channels take. It reads the schemas.
func (c *BrokerConfig) publishRules() (*hub.PublishRules, error) {
	list := make([]hub.PublishRule, 0, len(c.Channels))
	for _, ch := range c.Channels {
		list = append(list, hub.PublishRule{Pattern: ch.Pattern, Types: ch.EventTypes, Schema: ch.Schema})
	}
	return hub.NewPublishRules(list)
}

// checkBrokerName returns an error if s cannot name a broker. Names are used in
// metrics and URLs.
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

// stateFormats are the names of the broker.StateFormat constants, in their order.
var stateFormats = []string{"raw", "merge-patch", "json-patch"}

// statePolicy returns how a channel's value is kept and sent.
func (c *ChannelConfig) statePolicy() (p broker.StatePolicy, err error) {
	if c.StateFormat != "" {
		format := slices.Index(stateFormats, c.StateFormat)
		if format < 0 {
			return p, fmt.Errorf("the format of state is raw, merge-patch or json-patch, not %q", c.StateFormat)
		}
		p.Format = broker.StateFormat(format)
	}
	p.Key = c.StateKey
	switch ttl := time.Duration(c.StateTTL); {
	case ttl == -1:
	case ttl != 0 && ttl < time.Millisecond:
		return p, fmt.Errorf("state_ttl must be at least 1ms, or -1 for unlimited, not %s", ttl)
	default:
		p.TTL = ttl
	}
	return p, p.Validate()
}
