package evstream

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/auth"
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
		return true, oneArg(d, &h.Cookie, "the name of one cookie")
	case "insecure_query_token":
		h.InsecureQueryToken = "token"
		if args := d.RemainingArgs(); len(args) == 1 {
			h.InsecureQueryToken = args[0]
		} else if len(args) > 1 {
			return true, d.Errf("insecure_query_token takes the name of one parameter, or none for \"token\"")
		}
	case "caddy_auth":
		h.CaddyAuth = true
	case "console":
		h.Console = true
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
	opening := d.Token()
	seen, err := block(d, "jwt", []string{"key"}, func(name string) error {
		switch name {
		case "key":
			args := d.RemainingArgs()
			if len(args) != 1 && len(args) != 2 {
				return d.Errf("key takes a key, and may take its id%s", unsetHint(d, args))
			}
			if err := notLiteral(d, fmt.Sprintf("jwt: key %d", len(c.Keys)+1), args[0]); err != nil {
				return err
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
			return oneArg(d, &c.JWKS, "one URL, such as https://login.example.com/jwks.json")
		case "allow_private":
			c.AllowPrivate = true
		case "algorithms":
			return someArgs(d, &c.Algorithms, "names of algorithms, such as ES256")
		case "issuer":
			return oneArg(d, &c.Issuer, "the value of the claim iss")
		case "audience":
			return someArgs(d, &c.Audience, "values of the claim aud")
		case "leeway":
			return parseDuration(d, name, d.RemainingArgs(), &c.Leeway)
		case "user_claim":
			return oneArg(d, &c.UserClaim, "the name of one claim, such as email")
		case "insecure_no_expiry":
			c.InsecureNoExpiry = true
		default:
			return d.Errf("unknown subdirective %q of jwt%s", name, jwtWords.hint(name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return seen.errorOf(opening, "jwt: %w", err)
	}
	return nil
}

func (c *TicketsConfig) unmarshal(d *caddyfile.Dispenser) error {
	opening := d.Token()
	seen, err := block(d, "tickets", []string{"key"}, func(name string) error {
		switch name {
		case "lifetime":
			return parseDuration(d, name, d.RemainingArgs(), &c.Lifetime)
		case "key":
			var secret string
			if err := oneSecret(d, &secret, "tickets: the key", "{env.EVSTREAM_TICKET_KEY}"); err != nil {
				return err
			}
			c.Keys = append(c.Keys, secret)
			return nil
		}
		return d.Errf("unknown subdirective %q of tickets%s", name, ticketsWords.hint(name))
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return seen.errorOf(opening, "tickets: %w", err)
	}
	return nil
}

func (c *VerifyConfig) unmarshal(d *caddyfile.Dispenser) error {
	opening := d.Token()
	if !d.NextArg() {
		return d.Errf("verify takes the URL that is asked who the caller is, such as https://app.example.com/auth")
	}
	c.URL = d.Val()
	seen, err := block(d, "verify", nil, func(name string) error {
		switch name {
		case "timeout":
			return parseDuration(d, name, d.RemainingArgs(), &c.Timeout)
		case "cache":
			return parseDuration(d, name, d.RemainingArgs(), &c.Cache)
		case "forward":
			return someArgs(d, &c.Forward, "names of headers, such as Cookie")
		case "allow_private":
			c.AllowPrivate = true
			return nil
		}
		return d.Errf("unknown subdirective %q of verify%s", name, verifyWords.hint(name))
	})
	if err != nil {
		return err
	}
	if err := c.plain().Check(); err != nil {
		return seen.errorOf(opening, "verify: %w", err)
	}
	return nil
}
