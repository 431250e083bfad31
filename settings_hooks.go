package evstream

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/hooks"
)

// knownPlaceholder is one that is replaced when the configuration is provisioned.
var knownPlaceholder = regexp.MustCompile(`\{(env|file)\.[^{}]*\}`)

// check reports what is wrong with a hook, as far as that is known before placeholders
// are replaced.
func (h *HookConfig) check() error {
	if h.URL == "" {
		return errors.New("a hook needs a URL")
	}
	if at := knownPlaceholder.FindStringIndex(h.URL); at == nil || at[0] > 0 {
		if err := hooks.CheckURL(knownPlaceholder.ReplaceAllString(h.URL, "x")); err != nil {
			return err
		}
	}
	if !knownPlaceholder.MatchString(h.URL) && len(h.Secrets) == 0 {
		if err := hooks.CheckUnsigned(h.URL); err != nil {
			return err
		}
	}
	if err := hooks.CheckEvents(h.Events); err != nil {
		return err
	}
	for _, pattern := range h.Channels {
		if _, err := channel.ParsePattern(pattern); err != nil {
			return err
		}
	}
	for _, secret := range h.Secrets {
		if knownPlaceholder.MatchString(secret) {
			continue
		}
		if _, err := hooks.ParseSecret(secret); err != nil {
			return err
		}
	}
	return nil
}

// plain returns a hook with its placeholders replaced. Errors do not quote secrets.
func (h *HookConfig) plain(repl *caddy.Replacer) (hooks.Hook, error) {
	plain := hooks.Hook{Events: h.Events, Channels: h.Channels}
	var err error
	if plain.URL, err = replaced(repl, h.URL); err != nil {
		return plain, fmt.Errorf("the URL: %w", err)
	}
	plain.URL = strings.TrimSpace(plain.URL)
	for i, raw := range h.Secrets {
		text, err := replaced(repl, raw)
		if err != nil {
			return plain, fmt.Errorf("secret %d: %w", i+1, err)
		}
		secret, err := hooks.ParseSecret(strings.TrimSpace(text)) // a file ends with a line feed
		if err != nil {
			return plain, fmt.Errorf("secret %d: %w", i+1, err)
		}
		plain.Secrets = append(plain.Secrets, secret)
	}
	return plain, nil
}

// checkHooks reports the first invalid hook, before placeholders are replaced.
func (c *BrokerConfig) checkHooks() error {
	for i := range c.Hooks {
		h := &c.Hooks[i]
		if err := h.check(); err != nil {
			return fmt.Errorf("on: %w", err)
		}
		if slices.ContainsFunc(c.Hooks[:i], func(other HookConfig) bool { return other.URL == h.URL }) {
			return fmt.Errorf("on: %w", hooks.ErrSameURL)
		}
	}
	return nil
}

// plainHooks returns the hooks with their placeholders replaced.
func (c *BrokerConfig) plainHooks() ([]hooks.Hook, error) {
	repl := caddy.NewReplacer()
	list := make([]hooks.Hook, 0, len(c.Hooks))
	for i := range c.Hooks {
		h, err := c.Hooks[i].plain(repl)
		if err != nil {
			return nil, fmt.Errorf("on: hook %d: %w", i+1, err)
		}
		list = append(list, h)
	}
	if err := hooks.Check(list); err != nil {
		return nil, fmt.Errorf("on: %w", err)
	}
	return list, nil
}
