package evstream

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/evstream/caddy-evstream/internal/nearest"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("evstream", parseGlobalOption)
}

// parseGlobalOption declares a broker; each name may be declared once. Syntax:
//
//	evstream [<name>] {
//		...
//	}
//
// The name is "default" if it is left out. The block is that of
// [BrokerConfig.UnmarshalCaddyfile].
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app, err := declaredBrokers(existing)
	if err != nil {
		return nil, err
	}
	d.Next() // the option's name
	name := defaultBroker
	if d.NextArg() {
		name = d.Val()
	}
	if err := checkBrokerName(name); err != nil {
		if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "@") {
			return nil, d.Errf("%q cannot name a broker: the handler, evstream %s { … }, belongs in a site", name, name)
		}
		return nil, d.WrapErr(err)
	}
	if _, ok := app.Brokers[name]; ok {
		return nil, d.Errf("broker %q is declared twice", name)
	}
	c := new(BrokerConfig)
	if err := c.UnmarshalCaddyfile(d.NewFromNextSegment()); err != nil {
		return nil, err
	}
	if app.Brokers == nil {
		app.Brokers = make(map[string]*BrokerConfig)
	}
	app.Brokers[name] = c
	return httpcaddyfile.App{Name: "evstream", Value: caddyconfig.JSON(app, nil)}, nil
}

// declaredBrokers returns the brokers that earlier global options declared.
func declaredBrokers(option any) (*App, error) {
	app := new(App)
	if declared, ok := option.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(declared.Value, app); err != nil {
			return nil, err
		}
	}
	return app, nil
}

// UnmarshalCaddyfile sets up a broker from Caddyfile tokens. Syntax:
//
//	evstream [<name>] {
//		adapter <module> [<args...>]
//		history <count>|unlimited|off [<age>|unlimited] [<size>|unlimited]
//		channel <pattern> {
//			history     ...
//			event_types <types...>
//			schema      <file>
//			state_ttl   <duration>|unlimited
//			key         <name>
//			format      raw|merge-patch|json-patch
//		}
//		on <event...> <url> {
//			secret   <secrets...>
//			channels <patterns...>
//		}
//		max_history            <size>|unlimited
//		max_connections        <count>|unlimited
//		max_connections_per_ip <count>|unlimited
//		max_channels           <count>|unlimited
//		max_subscribers        <count>|unlimited
//		max_patterns           <count>|unlimited
//		share                  <percent>%|unlimited
//		max_session_channels   <count>|unlimited
//		max_session_patterns   <count>|unlimited
//		max_connections_per_user <count>|unlimited
//		connect_rate           <count>|unlimited [<burst>]
//		refused_rate           <count>|unlimited [<burst>]
//		read_rate              <count>|unlimited [<burst>]
//		publish_rate           <count>|unlimited [<burst>]
//		publish_bytes          <size>|unlimited [<burst>]
//		max_event              <size>|unlimited
//		max_states             <count>|unlimited
//		max_state_bytes        <size>|unlimited
//	}
//
// A rate is a count or a size a second, and a burst at once. The arguments of
// history are told apart by their shape: 1000 is a count, 1h an age, 16MiB a
// size. Any of them may be left out; "unlimited" stands for the first of count,
// age and size that is not given before it. channel may be repeated with other
// patterns, and on with other URLs; the others not.
func (c *BrokerConfig) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name, or the broker's
	c.Source = sourceOf(d)
	if d.NextArg() {
		return d.Errf("unexpected argument %q: the global option evstream takes one name of a broker at most, and a block", d.Val())
	}
	seen := make(once)
	for d.NextBlock(0) {
		name := d.Token()
		if d.Val() == "channel" || d.Val() == "on" {
			seen.note(d)
		} else if err := seen.check(d); err != nil {
			return err
		}
		if err := c.unmarshalOption(d); err != nil {
			return err
		}
		if err := noBlock(d, name); err != nil {
			return err
		}
		if _, err := c.settings(); err != nil {
			return errorAt(name, "%w", err)
		}
	}
	return nil
}

func (c *BrokerConfig) unmarshalOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "adapter":
		const namespace = "evstream.adapters"
		var known []string
		for _, m := range caddy.GetModules(namespace) {
			known = append(known, m.ID.Name())
		}
		if !d.NextArg() {
			return d.Errf("adapter takes a name: %s", strings.Join(known, ", "))
		}
		name := d.Val()
		if strings.HasPrefix(name, "redis://") || strings.HasPrefix(name, "rediss://") || strings.HasPrefix(name, "unix://") {
			return d.Errf("adapter takes a name before the URL: adapter redis <url>")
		}
		if _, err := caddy.GetModule(namespace + "." + name); err != nil {
			return d.Errf("there is no adapter %q in this Caddy, only %s%s", name, strings.Join(known, ", "), nearest.Hint(name, known...))
		}
		module, err := caddyfile.UnmarshalModule(d, "evstream.adapters."+name)
		if err != nil {
			return err
		}
		c.AdapterRaw = caddyconfig.JSONModuleObject(module, "name", name, nil)
	case "history":
		return c.parseHistory(d, &c.History)
	case "channel":
		return c.parseChannel(d)
	case "on":
		return c.parseHook(d)
	case "max_history":
		return parseLimit(d, parseSize, &c.MaxHistory)
	case "max_connections":
		return parseLimit(d, parseCount, &c.MaxConnections)
	case "max_connections_per_ip":
		return parseLimit(d, parseCount, &c.MaxConnectionsPerIP)
	case "max_channels":
		return parseLimit(d, parseCount, &c.MaxChannels)
	case "max_subscribers":
		return parseLimit(d, parseCount, &c.MaxSubscribers)
	case "max_patterns":
		return parseLimit(d, parseCount, &c.MaxPatterns)
	case "share":
		return parseLimit(d, parseShare, &c.Share)
	case "max_session_channels":
		return parseLimit(d, parseCount, &c.MaxSessionChannels)
	case "max_session_patterns":
		return parseLimit(d, parseCount, &c.MaxSessionPatterns)
	case "max_connections_per_user":
		return parseLimit(d, parseCount, &c.MaxConnectionsPerUser)
	case "connect_rate":
		return parseRate(d, parseCount, &c.ConnectRate)
	case "refused_rate":
		return parseRate(d, parseCount, &c.RefusedRate)
	case "read_rate":
		return parseRate(d, parseCount, &c.ReadRate)
	case "publish_rate":
		return parseRate(d, parseCount, &c.PublishRate)
	case "publish_bytes":
		return parseRate(d, parseSize, &c.PublishBytes)
	case "max_event":
		return parseLimit(d, parseSize, &c.MaxEvent)
	case "max_states":
		return parseLimit(d, parseCount, &c.MaxStates)
	case "max_state_bytes":
		return parseLimit(d, parseSize, &c.MaxStateBytes)
	default:
		return d.Errf("unknown option %q%s", d.Val(), brokerWords.hint(d.Val()))
	}
	return nil
}

// parseHistory reads the bounds of a history, told apart by their shape.
func (c *BrokerConfig) parseHistory(d *caddyfile.Dispenser, to **History) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("history takes a count, an age, a size, or off, such as: history 1000 1h")
	}
	h := new(History)
	*to = h
	if args[0] == "off" {
		if h.Off = true; len(args) > 1 {
			return d.Errf("history off stands alone, but %q follows", args[1])
		}
		return nil
	}
	for _, arg := range args {
		if err := h.parseBound(arg); err != nil {
			return d.Errf("history: %w", err)
		}
	}
	return nil
}

// parseBound reads one bound of a history.
func (h *History) parseBound(s string) error {
	if s == "unlimited" {
		switch {
		case h.Events == 0:
			h.Events = Unlimited
		case h.Age == 0:
			h.Age = -1
		default:
			return setOnce(&h.Bytes, Unlimited, "a size", s)
		}
		return nil
	}
	if n, err := parseCount(s); err == nil {
		return setOnce(&h.Events, n, "a count", s)
	}
	if age, err := caddy.ParseDuration(s); err == nil && age >= time.Millisecond {
		return setOnce(&h.Age, caddy.Duration(age), "an age", s)
	}
	if size, err := parseSize(s); err == nil && s[len(s)-1] > '9' {
		return setOnce(&h.Bytes, size, "a size", s)
	}
	return fmt.Errorf("%q is not a count such as 1000, an age such as 1h or a size such as 16MiB, above zero, nor \"unlimited\" or \"off\"", s)
}

// setOnce returns an error if a bound of this shape is set already.
func setOnce[T comparable](to *T, v T, shape, s string) error {
	var zero T
	if *to != zero {
		return fmt.Errorf("%q is %s, which was given before", s, shape)
	}
	*to = v
	return nil
}

// parseRate parses the rate that follows, and its burst.
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

// Interface guard
var _ caddyfile.Unmarshaler = (*BrokerConfig)(nil)
