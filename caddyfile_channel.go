package evstream

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/presence"
)

func (c *BrokerConfig) parseChannel(d *caddyfile.Dispenser) error {
	var ch ChannelConfig
	if !d.NextArg() {
		return d.Errf("channel takes a pattern, such as chat/**, and a block")
	}
	ch.Pattern = d.Val()
	if _, err := channel.ParsePattern(ch.Pattern); err != nil {
		return d.Errf("channel: %w", err)
	}
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
		if err := someArgs(d, &ch.EventTypes, "the names of events, such as: score goal"); err != nil {
			return err
		}
		if i := slices.IndexFunc(ch.EventTypes, func(t string) bool { return strings.Contains(t, ",") }); i >= 0 {
			return d.Errf("event_types: %q has a comma: spaces separate the types", ch.EventTypes[i])
		}
		if err := hub.CheckEventTypes(ch.EventTypes); err != nil {
			return d.WrapErr(err)
		}
	case "schema":
		return oneArg(d, &ch.Schema, "the path of one file")
	case "presence":
		if d.NextArg() {
			return d.Errf("presence takes no argument; how many are told by name is presence_members")
		}
		ch.Presence = true
	case "presence_members":
		return parseMembers(d, &ch.PresenceMembers)
	case "presence_grace":
		return parseDuration(d, d.Val(), d.RemainingArgs(), &ch.PresenceGrace)
	case "presence_meta":
		return someArgs(d, &ch.PresenceMeta, "the names of claims, such as: name picture")
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
		return oneArg(d, &c.StateKey, "the name of the JSON member that holds the value, such as count")
	case "format":
		return oneOf(d, &c.StateFormat, stateFormats...)
	default:
		return d.Errf("unknown option %q of a channel%s", name, channelWords.hint(name))
	}
}

// parseMembers reads presence_members.
func parseMembers(d *caddyfile.Dispenser, to *int) error {
	var text string
	if err := oneArg(d, &text, "how many members are told by name, such as 100"); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > presence.MaxMembers {
		return d.Errf("presence_members must be from 1 to %d, not %q", presence.MaxMembers, text)
	}
	*to = n
	return nil
}
