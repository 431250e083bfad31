package evstream

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/hub"
)

func (c *BrokerConfig) parseChannel(d *caddyfile.Dispenser) error {
	var ch ChannelConfig
	if !d.NextArg() {
		return d.ArgErr()
	}
	ch.Pattern = d.Val()
	if d.NextArg() {
		return d.Errf("unexpected argument %q: a channel has one pattern, and a block", d.Val())
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.check(d); err != nil {
			return err
		}
		if err := c.parseChannelOption(d, &ch); err != nil {
			return err
		}
	}
	c.Channels = append(c.Channels, ch)
	return nil
}

func (c *BrokerConfig) parseChannelOption(d *caddyfile.Dispenser, ch *ChannelConfig) error {
	switch d.Val() {
	case "history":
		return c.parseHistory(d, &ch.History)
	case "event_types":
		if ch.EventTypes = d.RemainingArgs(); len(ch.EventTypes) == 0 {
			return d.ArgErr()
		}
		if err := hub.CheckEventTypes(ch.EventTypes); err != nil {
			return d.WrapErr(err)
		}
	case "schema":
		if !d.AllArgs(&ch.Schema) || ch.Schema == "" {
			return d.Errf("schema is the path of one file")
		}
	default:
		return ch.unmarshalState(d)
	}
	return nil
}

// unmarshalState reads an option about a channel's state.
func (c *ChannelConfig) unmarshalState(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "state_ttl":
		return parseDuration(d, name, d.RemainingArgs(), &c.StateTTL, "unlimited")
	case "key":
		if !d.AllArgs(&c.StateKey) {
			return d.ArgErr()
		}
		if c.StateKey == "" {
			return d.Errf("key is the name of the JSON member that holds the value, such as count")
		}
	case "format":
		if !d.AllArgs(&c.StateFormat) || !slices.Contains(stateFormats, c.StateFormat) {
			return d.Errf("format is raw, merge-patch or json-patch")
		}
	default:
		return d.Errf("unknown option %q of a channel%s", name, elsewhere(name, handlerOptions, "belongs in the handler, evstream { … } within a site", channelOptions))
	}
	return nil
}
