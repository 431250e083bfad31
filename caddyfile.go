package evstream

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/internal/nearest"
)

func init() {
	httpcaddyfile.RegisterDirective("evstream", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("evstream", httpcaddyfile.After, "encode")
}

// parseDirective sets up a route with the handler. Syntax:
//
//	evstream [<matcher>] {
//		...
//	}
//
// In a block that takes over, the matcher is any. Else a matcher of the form /live/* is the mount: the channel match.7 is /live/match.7,
// and /live itself is redirected to /live/. Without a matcher, or with a named one,
// the mount is that of the block, or else the site's root. Other path matchers
// are an error. The block is that of [Handler.UnmarshalCaddyfile].
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	takesOver := blockTakesOver(h.Dispenser)
	h.Next() // the directive's name
	var matcher string
	if h.NextArg() {
		matcher = h.Val()
	}
	handler := new(Handler)
	handler.checkBroker = func(d *caddyfile.Dispenser, name string) error { return checkBrokerOption(h, d, name) }
	var matchers caddy.ModuleMap
	if strings.HasPrefix(matcher, "/") {
		mount, ok := strings.CutSuffix(matcher, "/*")
		switch {
		case takesOver:
			matchers = caddy.ModuleMap{"path": h.JSON(caddyhttp.MatchPath{matcher})}
		case !ok || httpapi.CheckMount(mount) != nil:
			return nil, h.Errf("the path %q cannot be where channels lie: give a path with a final /*, such as /live/*; any other matcher has to be a named one, with a mount", matcher)
		case mount != "":
			handler.Mount = mount
			// One path, because Caddy sorts only routes with a single path by
			// its length. It also matches /live, which the
			// handler redirects, and /livery, which it passes on.
			matchers = caddy.ModuleMap{"path": h.JSON(caddyhttp.MatchPath{mount + "*"})}
		}
		h.Delete()
		h.Reset()
	} else {
		h.Reset()
		h.Next()
		var err error
		if matchers, err = h.ExtractMatcherSet(); err != nil {
			return nil, h.WrapErr(err)
		}
	}
	if err := handler.unmarshal(h.Dispenser, matchersOf(h)); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, handler), nil
}

// checkBrokerOption reports a broker that the global options do not declare.
func checkBrokerOption(h httpcaddyfile.Helper, d *caddyfile.Dispenser, name string) error {
	if name == "" || name == defaultBroker {
		return nil
	}
	declared, err := declaredBrokers(h.Option("evstream"))
	if err != nil {
		return err
	}
	if _, ok := declared.Brokers[name]; !ok {
		names := append(slices.Sorted(maps.Keys(declared.Brokers)), defaultBroker)
		return d.Errf("there is no broker %q: the global option \"evstream %s\" would declare it%s", name, name, nearest.Hint(name, names...))
	}
	return nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	evstream {
//		handoff|record <channel> [{ ... }]|resume <channel>
//		mount         <path>
//		broker        <name>
//		allow         <who> subscribe|publish|purge|state|session|all[,...] <channels...>
//		bearer        <name> <secret>
//		console
//		jwt           { ... }
//		cookie        <name>
//		insecure_query_token [<name>]
//		caddy_auth
//		tickets       [{ ... }]
//		verify        <url> [{ ... }]
//		cors          <origins...>
//		ignore_query  <names...>
//		heartbeat     <duration>|off [event]
//		retry         <min> [<max>]
//		write_timeout <duration>
//		max_age       <duration>|unlimited|off
//		drain         <duration>
//		on_reload     drain <duration>
//		on_overload   retry|503
//		delivery      auto|attached
//		max_body      <size>|unlimited
//	}
//
// With handoff, record or resume, whose blocks are those of unmarshalTakeover, the
// handler serves no channels. allow is required, but not beside handoff. It and bearer may be repeated, the others not. <who> is
// anyone, user, the name of a bearer, claim <name> <value>, or a named matcher of
// the site, @<name>. <channels...> are patterns, in which {user} and
// {claims.<name>} stand for whole segments. <secret> is {env.NAME},
// {file./abs/path} or, at your own risk, the secret itself. The blocks of jwt,
// tickets and verify are those of unmarshalIdentity.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, noMatchers)
}

func (h *Handler) unmarshal(d *caddyfile.Dispenser, find matcherFinder) error {
	d.Next() // the directive's name
	opening := d.Token()
	h.Source = sourceOf(d)
	if d.NextArg() {
		return d.Errf("unexpected argument %q: evstream takes one matcher, which is a path such as /live/* or the @name of one, and a block", d.Val())
	}
	var rules []caddyfile.Token // the first of each rule, for errors
	seen := make(once)
	for d.NextBlock(0) {
		name := d.Token()
		if d.Val() == "allow" || d.Val() == "bearer" {
			seen.note(d)
		} else if err := seen.check(d); err != nil {
			return err
		}
		if d.Val() == "allow" {
			rules = append(rules, d.Token())
		}
		if err := h.unmarshalSubdirective(d); err != nil {
			return err
		}
		if err := noBlock(d, name); err != nil {
			return err
		}
		if _, err := h.settings(); err != nil {
			return errorAt(name, "%w", err)
		}
	}
	if err := h.checkTakeover(); err != nil {
		return seen.errorOf(opening, "%w", err)
	}
	if len(rules) == 0 && h.needsRules() {
		return errorAt(opening, "evstream needs at least one rule, such as \"allow anyone subscribe **\": nothing is allowed that no rule allows")
	}
	if err := h.checkConsole(); err != nil {
		return seen.errorOf(opening, "%w", err)
	}
	c := h.authConfig()
	if err := c.Check(httpapi.Parameters()); err != nil {
		return seen.errorOf(opening, "%w", err)
	}
	if err := httpapi.CheckCORS(h.CORS); err != nil {
		return seen.errorOf(opening, "%w", err)
	}
	if err := httpapi.CheckAmbient(h.CORS, c); err != nil {
		return seen.errorOf(opening, "%w", err)
	}
	// A rule may name a bearer that is declared after it.
	for i, at := range rules {
		r := h.Allow[i].rule()
		if err := auth.CheckBearers(h.Bearers); err != nil {
			return errorAt(at, "%w", err)
		}
		if err := r.Check(c.BearerNames()); err != nil {
			if _, no := find(at, "@"+r.Who); no == nil {
				return errorAt(at, "%s: %q is nobody, but there is a matcher @%s: write it with its @", &r, r.Who, r.Who)
			}
			return errorAt(at, "%s: %w", &r, err)
		}
		if err := c.CheckRule(&r); err != nil {
			return errorAt(at, "%w", err)
		}
		if err := h.Allow[i].findMatcher(find, at); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) unmarshalSubdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "mount":
		if h.Mount != "" {
			return d.Errf("the matcher already says that the mount is %s", h.Mount)
		}
		if err := oneArg(d, &h.Mount, "one path, such as /live"); err != nil {
			return err
		}
		if err := httpapi.CheckMount(h.Mount); err != nil {
			return d.WrapErr(err)
		}
	case "broker":
		if err := oneArg(d, &h.Broker, "the name of one broker, as the global option \"evstream <name>\" declares it"); err != nil {
			return err
		}
		if h.checkBroker != nil {
			return h.checkBroker(d, h.Broker)
		}
	case "allow":
		rule, err := parseRule(d.RemainingArgs())
		if err != nil {
			return d.WrapErr(err)
		}
		h.Allow = append(h.Allow, rule)
	case "bearer":
		args := d.RemainingArgs()
		if len(args) != 2 || args[1] == "" {
			return d.Errf("bearer takes a name and a secret, such as: bearer backend {env.EVSTREAM_TOKEN}%s", unsetHint(d, args))
		}
		if err := notLiteral(d, "the secret", args[1]); err != nil {
			return err
		}
		return h.addBearer(d, args[0], args[1])
	case "cors":
		if err := someArgs(d, &h.CORS, "origins, such as https://app.example.com"); err != nil {
			return err
		}
		if err := httpapi.CheckCORS(h.CORS); err != nil {
			return d.WrapErr(err)
		}
	case "ignore_query":
		if err := someArgs(d, &h.IgnoreQuery, "names of query parameters, such as utm_source"); err != nil {
			return err
		}
		if err := httpapi.CheckIgnoreQuery(h.IgnoreQuery); err != nil {
			return d.WrapErr(err)
		}
	case "heartbeat":
		args := d.RemainingArgs()
		if len(args) == 2 && args[1] == "event" {
			h.HeartbeatEvent, args = true, args[:1]
		}
		return parseDuration(d, name, args, &h.Heartbeat, "off")
	case "retry":
		args := d.RemainingArgs()
		if len(args) == 2 {
			if err := parseDuration(d, name, args[1:], &h.RetryMax); err != nil {
				return err
			}
			args = args[:1]
		}
		return parseDuration(d, name, args, &h.RetryMin)
	case "write_timeout":
		return parseDuration(d, name, d.RemainingArgs(), &h.WriteTimeout)
	case "max_age":
		return parseDuration(d, name, d.RemainingArgs(), &h.MaxAge, "unlimited", "off")
	case "drain":
		return parseDuration(d, name, d.RemainingArgs(), &h.Drain)
	case "on_reload":
		args := d.RemainingArgs()
		if len(args) != 2 || args[0] != "drain" {
			return d.Errf("on_reload is: on_reload drain <duration>; without it streams live on")
		}
		return parseDuration(d, name, args[1:], &h.OnReloadDrain)
	case "on_overload":
		return oneOf(d, &h.OnOverload, "retry", "503")
	case "delivery":
		return oneOf(d, &h.Delivery, "auto", "attached")
	case "max_body":
		return parseLimit(d, parseSize, &h.MaxBody)
	default:
		if known, err := h.unmarshalIdentity(d); known || err != nil {
			return err
		}
		if known, err := h.unmarshalTakeover(d); known || err != nil {
			return err
		}
		return d.Errf("unknown subdirective %q%s", name, handlerWords.hint(name))
	}
	return nil
}

func (h *Handler) addBearer(d *caddyfile.Dispenser, name, secret string) error {
	if _, ok := h.Bearers[name]; ok {
		return d.Errf("bearer %q is given twice", name)
	}
	if h.Bearers == nil {
		h.Bearers = make(map[string]string)
	}
	h.Bearers[name] = secret
	if err := auth.CheckBearers(h.Bearers); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// parseDuration parses args, which must be one duration, or one of words for -1.
func parseDuration(d *caddyfile.Dispenser, name string, args []string, to *caddy.Duration, words ...string) error {
	if len(args) != 1 {
		return d.Errf("%s takes one duration, such as 15s, written without a space%s", name, orWords(words))
	}
	if slices.Contains(words, args[0]) {
		*to = -1
		return nil
	}
	v, err := caddy.ParseDuration(args[0])
	if err != nil || v <= 0 {
		return d.Errf("%s: %q is not a duration above zero, such as 15s%s", name, args[0], orWords(words))
	}
	*to = caddy.Duration(v)
	return nil
}

// parseLimit parses the limit that follows, which must be one.
func parseLimit[T any](d *caddyfile.Dispenser, parse func(string) (T, error), to *T) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) > 1 {
		return d.Errf("%s takes one value, not %d: %s; one with a unit is written without a space, such as 64KiB", name, len(args), strings.Join(args, " "))
	}
	limit, err := parse(strings.Join(args, ""))
	if err != nil {
		return d.Errf("%s: %w", name, err)
	}
	*to = limit
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
