package evstream

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/internal/nearest"
)

// unmarshalIdentity reads a subdirective about how callers are identified. It
// returns false for any other. Syntax:
//
//	jwt {
//		key <key> [<kid>]
//		jwks <url>
//		allow_private
//		algorithms <names...>
//		issuer <issuer>
//		audience <audiences...>
//		leeway <duration>
//		user_claim <name>
//		insecure_no_expiry
//	}
//	cookie <name>
//	insecure_query_token [<name>]
//	caddy_auth
//	tickets {
//		lifetime <duration>
//		key <secret>
//	}
//	verify <url> {
//		timeout <duration>
//		cache <duration>
//		forward <headers...>
//		allow_private
//	}
//
// key may be repeated, the others not; the blocks of tickets and verify are
// optional. A key is {env.NAME}, {file./abs/path}, a public key or, at your own
// risk, the secret itself. The query parameter is "token" by default.
func (h *Handler) unmarshalIdentity(d *caddyfile.Dispenser) (bool, error) {
	switch d.Val() {
	case "jwt":
		h.JWT = new(JWTConfig)
		return true, h.JWT.unmarshal(d)
	case "cookie":
		if !d.AllArgs(&h.Cookie) {
			return true, d.ArgErr()
		}
	case "insecure_query_token":
		h.InsecureQueryToken = "token"
		if args := d.RemainingArgs(); len(args) == 1 {
			h.InsecureQueryToken = args[0]
		} else if len(args) > 1 {
			return true, d.ArgErr()
		}
	case "caddy_auth":
		h.CaddyAuth = true
	case "tickets":
		h.Tickets = new(TicketsConfig)
		return true, h.Tickets.unmarshal(d)
	case "verify":
		h.Verify = new(VerifyConfig)
		return true, h.Verify.unmarshal(d)
	default:
		return false, nil
	}
	return true, nil
}

func (c *JWTConfig) unmarshal(d *caddyfile.Dispenser) error {
	err := block(d, "jwt", []string{"key"}, func(name string) error {
		switch name {
		case "key":
			args := d.RemainingArgs()
			if len(args) != 1 && len(args) != 2 {
				return d.Errf("key takes a key, and may take its id%s", unsetHint(args))
			}
			if len(args[0]) < 32 && !strings.Contains(args[0], "{") {
				if err := auth.CheckKey(args[0]); err != nil {
					return d.Errf("jwt: key %d: %w", len(c.Keys)+1, err)
				}
			}
			key := JWTKey{Key: args[0]}
			if len(args) == 2 {
				key.ID = args[1]
			}
			c.Keys = append(c.Keys, key)
		case "jwks":
			return oneArg(d, &c.JWKS)
		case "allow_private":
			c.AllowPrivate = true
		case "algorithms":
			return someArgs(d, &c.Algorithms)
		case "issuer":
			return oneArg(d, &c.Issuer)
		case "audience":
			return someArgs(d, &c.Audience)
		case "leeway":
			return parseDuration(d, name, d.RemainingArgs(), &c.Leeway)
		case "user_claim":
			return oneArg(d, &c.UserClaim)
		case "insecure_no_expiry":
			c.InsecureNoExpiry = true
		default:
			return d.Errf("unknown subdirective %q of jwt%s", name, nearest.Hint(name, jwtOptions...))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return d.Errf("jwt: %w", err)
	}
	return nil
}

func (c *TicketsConfig) unmarshal(d *caddyfile.Dispenser) error {
	err := block(d, "tickets", []string{"key"}, func(name string) error {
		switch name {
		case "lifetime":
			return parseDuration(d, name, d.RemainingArgs(), &c.Lifetime)
		case "key":
			var secret string
			if err := oneArg(d, &secret); err != nil {
				return err
			}
			c.Keys = append(c.Keys, secret)
			return nil
		}
		return d.Errf("unknown subdirective %q of tickets%s", name, nearest.Hint(name, "lifetime", "key"))
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return d.Errf("tickets: %w", err)
	}
	return nil
}

func (c *VerifyConfig) unmarshal(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	c.URL = d.Val()
	err := block(d, "verify", nil, func(name string) error {
		switch name {
		case "timeout":
			return parseDuration(d, name, d.RemainingArgs(), &c.Timeout)
		case "cache":
			return parseDuration(d, name, d.RemainingArgs(), &c.Cache)
		case "forward":
			return someArgs(d, &c.Forward)
		case "allow_private":
			c.AllowPrivate = true
			return nil
		}
		return d.Errf("unknown subdirective %q of verify%s", name, nearest.Hint(name, "timeout", "cache", "forward", "allow_private"))
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return d.Errf("verify: %w", err)
	}
	return nil
}

// block calls read for each line of a subdirective's block. Only lines that
// begin with a word of repeated may be repeated.
func block(d *caddyfile.Dispenser, of string, repeated []string, read func(name string) error) error {
	if d.NextArg() {
		return d.Errf("unexpected argument %q of %s", d.Val(), of)
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Token()
		if !slices.Contains(repeated, d.Val()) {
			if err := seen.check(d); err != nil {
				return err
			}
		}
		if err := read(d.Val()); err != nil {
			return err
		}
		if err := noBlock(d, name); err != nil {
			return err
		}
	}
	return nil
}

// oneArg reads the argument that follows, which must be one.
func oneArg(d *caddyfile.Dispenser, to *string) error {
	if !d.AllArgs(to) || *to == "" {
		return d.ArgErr()
	}
	return nil
}

// someArgs reads the arguments that follow, at least one.
func someArgs(d *caddyfile.Dispenser, to *[]string) error {
	if *to = d.RemainingArgs(); len(*to) == 0 {
		return d.ArgErr()
	}
	return nil
}
