package evstream

import (
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/broker"
)

// stateFormats are how changes can be told, in the order of the broker's.
var stateFormats = []string{"raw", "merge-patch", "json-patch"}

// statePolicy reads how a channel's value is told and kept.
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

// unmarshalState reads an option of a channel that is about its value.
func (c *ChannelConfig) unmarshalState(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "state_ttl":
		return parseDuration(d, name, d.RemainingArgs(), &c.StateTTL, "unlimited")
	case "key":
		if !d.AllArgs(&c.StateKey) {
			return d.ArgErr()
		}
		if c.StateKey == "" {
			return d.Errf("key is the name of the value in what subscribers are told, such as count")
		}
	case "format":
		if !d.AllArgs(&c.StateFormat) || !slices.Contains(stateFormats, c.StateFormat) {
			return d.Errf("format is raw, merge-patch or json-patch")
		}
	default:
		return d.Errf("unknown option %q of a channel", name)
	}
	return nil
}
