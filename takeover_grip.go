package evstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/takeover/grip"
)

// unmarshal reads what follows handoff.
func (c *HandoffConfig) unmarshal(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
		return nil
	case len(args) > 1 || args[0] != "grip":
		return d.Errf("handoff takes grip, or nothing, not %q", strings.Join(args, " "))
	}
	c.Grip = new(GripConfig)
	_, err := block(d, "handoff grip", nil, func(name string) error {
		switch name {
		case "key":
			return parseGripKey(d, &c.Grip.Key, "one key, such as {env.GRIP_KEY}")
		case "sign_key":
			return parseGripKey(d, &c.Grip.SignKey, "one key, such as {file./etc/caddy/grip.pem}")
		case "iss":
			return oneArg(d, &c.Grip.Issuer, "the name of one issuer")
		case "publish":
			if err := oneArg(d, &c.Grip.Publish, "one path, such as /_grip"); err != nil {
				return err
			}
			return checkGripPath(c.Grip.Publish)
		}
		return d.Errf("unknown subdirective %q of handoff grip%s", name, gripWords.hint(name))
	})
	return err
}

// parseGripKey reads a key. What is no placeholder is checked where it stands.
func parseGripKey(d *caddyfile.Dispenser, to *string, what string) error {
	name := d.Val()
	if err := oneArg(d, to, what); err != nil {
		return err
	}
	if err := notLiteral(d, name, *to); err != nil {
		return err
	}
	if !strings.Contains(*to, "{") {
		if err := grip.CheckKey(*to); err != nil {
			return d.Errf("handoff grip: %s: %w", name, err)
		}
	}
	return nil
}

// openGripKey returns a key whose placeholders are replaced.
func openGripKey(key string) (string, error) {
	text, err := replaced(caddy.NewReplacer(), key)
	switch {
	case err != nil || key == "":
		return "", err
	case text == "":
		return "", fmt.Errorf("%s is empty", key)
	}
	if err := grip.CheckKey(text); err != nil && text != key {
		return "", fmt.Errorf("%s: %w", key, err)
	} else if err != nil {
		return "", err
	}
	return text, nil
}

// checkGripPath reports why applications cannot publish at a path.
func checkGripPath(path string) error {
	if path != "" && httpapi.CheckMount(path) != nil {
		return fmt.Errorf("publish must be a path such as /_grip, without a final slash, wildcards or escapes, not %q", path)
	}
	return nil
}

// provisionGrip makes what speaks GRIP with the application.
func (h *Handler) provisionGrip(ctx caddy.Context, hub *openHub) error {
	c := h.Handoff.Grip
	key, err := openGripKey(c.Key)
	if err != nil {
		return fmt.Errorf("handoff grip: key: %w", err)
	}
	sign, err := openGripKey(c.SignKey)
	if err != nil {
		return fmt.Errorf("handoff grip: sign_key: %w", err)
	}
	if h.gripKeys, err = grip.NewKeys(key, sign, c.Issuer); err != nil {
		return fmt.Errorf("handoff grip: %w", err)
	}
	proxy := grip.Config{Streams: h.api, Keys: h.gripKeys, Logger: ctx.Slogger(), Prepare: prepareOwn}
	if c.Publish != "" {
		if key == "" {
			return errors.New("handoff grip: publish needs a key: whoever reaches the site could publish")
		}
		if err := checkGripPath(c.Publish); err != nil {
			return err
		}
		proxy.Publish, proxy.Publisher = c.Publish, &grip.Publisher{Hub: hub.Hub, IDs: hub.grip, Keys: []*grip.Keys{h.gripKeys}, Logger: ctx.Slogger(), Published: h.api.Published}
	}
	h.takeover = grip.New(proxy)
	return nil
}

// prepareOwn makes a request of the hub's own one that the handlers of a route can serve.
func prepareOwn(w http.ResponseWriter, own, from *http.Request) *http.Request {
	server, ok := from.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return own
	}
	return caddyhttp.PrepareRequest(own, caddy.NewReplacer(), w, server)
}

// gripPath is where applications publish with GRIP, at the admin endpoint.
const gripPath = adminMount + "/_grip/publish"

// serveGrip serves requests to gripPath. For others it returns false.
func (a *App) serveGrip(w http.ResponseWriter, r *http.Request, name string, h *openHub) bool {
	if r.URL.Path != gripPath && r.URL.Path != gripPath+"/" {
		return false
	}
	p := &grip.Publisher{Hub: h.Hub, IDs: h.grip, Logger: logger}
	for _, handler := range a.handlers {
		if handler.gripKeys != nil && handler.api.Hub() == h.Hub {
			p.Keys = append(p.Keys, handler.gripKeys)
		}
	}
	if p.Keys == nil {
		answerProblem(w, problem.NotFound.Because("no handler of the broker %q has handoff grip", name))
		return true
	}
	p.ServeHTTP(w, r)
	return true
}
