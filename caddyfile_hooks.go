package evstream

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/hooks"
)

// parseHook reads a hook:
//
//	on <event...> <url> {
//		secret   <secrets...>
//		channels <patterns...>
//	}
func (c *BrokerConfig) parseHook(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Errf("on is one or more events, and a URL: on connected disconnected https://example.com/hooks")
	}
	h := HookConfig{Events: args[:len(args)-1], URL: args[len(args)-1]}
	if err := hooks.CheckEvents(h.Events); err != nil {
		return d.WrapErr(err)
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.check(d); err != nil {
			return err
		}
		switch d.Val() {
		case "secret":
			if h.Secrets = d.RemainingArgs(); len(h.Secrets) == 0 {
				return d.Errf("secret is one or more secrets%s", unsetHint(d, nil))
			}
			for _, secret := range h.Secrets {
				if err := notLiteral(d, "the secret", secret); err != nil {
					return err
				}
			}
		case "channels":
			if h.Channels = d.RemainingArgs(); len(h.Channels) == 0 {
				return d.Errf("channels is one or more patterns, such as match.*")
			}
		default:
			return d.Errf("unknown option %q of a hook%s", d.Val(), hookWords.hint(d.Val()))
		}
	}
	c.Hooks = append(c.Hooks, h)
	return nil
}
