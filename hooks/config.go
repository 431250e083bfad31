package hooks

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/nearest"
	"github.com/evstream/caddy-evstream/internal/safehttp"
)

// Hook says which events a URL gets.
type Hook struct {
	// URL is where events are posted to.
	URL string
	// Events are names of Events.
	Events []string
	// Channels are patterns; an event is sent if it is about a channel that one of them
	// matches, or about a session that reads such a one. Default: all.
	Channels []string
	// Secrets sign the events, each with a signature of its own.
	Secrets [][]byte
}

// Config is how Hooks are configured.
type Config struct {
	Hooks []Hook
	// Sink gets the events that are among SinkEvents, one at a time and in order. While
	// it is busy they are queued, as for a Hook. nil: none.
	Sink       func(*Event)
	SinkEvents []string
}

// MaxHooks bounds the hooks of one broker, so that each has a share of the queue that is
// of use.
const MaxHooks = 20

// ErrSameURL is the error of two hooks with the same URL.
var ErrSameURL = errors.New("two hooks have the same URL: name all events in one, or tell them apart by a query such as ?hook=2")

// CheckUnsigned reports why a hook with a valid URL needs a secret.
func CheckUnsigned(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || safehttp.IsLoopback(u.Hostname()) {
		return err
	}
	return fmt.Errorf("the hook to %s needs a secret: without one, anybody who knows the URL can send events there; only a URL of this host, such as http://localhost:3000, may have none", u.Host)
}

// CheckURL reports why a hook cannot have a URL.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case strings.ContainsAny(raw, "{}"):
		return fmt.Errorf("the URL %q has a placeholder that is not known when the configuration is loaded: only {env.…} and {file.…} are", raw)
	case err != nil || u.Hostname() == "":
		return errors.New("the URL of a hook is such as https://example.com/hooks")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the URL of a hook begins with https:// or http://, not with %q", u.Scheme)
	case u.User != nil:
		return errors.New("the URL of a hook must not have a user or a password: the signature says who sends")
	case u.Fragment != "":
		return errors.New("the URL of a hook must not have a fragment")
	}
	return nil
}

// CheckEvents reports why a hook cannot have events.
func CheckEvents(names []string) error {
	if len(names) == 0 {
		return errors.New("a hook needs an event: " + strings.Join(Events(), ", "))
	}
	for i, name := range names {
		if !slices.Contains(Events(), name) {
			return fmt.Errorf("there is no event %q, only %s%s", name, strings.Join(Events(), ", "), nearest.Hint(name, Events()...))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("the event %q is given twice", name)
		}
	}
	return nil
}

// Check reports the first invalid hook.
func Check(list []Hook) error {
	if len(list) > MaxHooks {
		return fmt.Errorf("a broker has at most %d hooks, not %d", MaxHooks, len(list))
	}
	for i := range list {
		h := &list[i]
		if err := CheckURL(h.URL); err != nil {
			return err
		}
		if err := CheckEvents(h.Events); err != nil {
			return err
		}
		for _, pattern := range h.Channels {
			if _, err := channel.ParsePattern(pattern); err != nil {
				return err
			}
		}
		if len(h.Secrets) == 0 {
			if err := CheckUnsigned(h.URL); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(list[:i], func(other Hook) bool { return other.URL == h.URL }) {
			return ErrSameURL
		}
	}
	return nil
}

// filter is a Hook as it is compared with events.
type filter struct {
	events   []string
	patterns []channel.Pattern // none: all channels
}

// matches reports whether an event is wanted.
func (f *filter) matches(e *Event) bool {
	if !slices.Contains(f.events, e.Name) {
		return false
	}
	return len(f.patterns) == 0 || slices.ContainsFunc(e.channels, func(name string) bool {
		read, err := channel.ParsePattern(name)
		return err == nil && slices.ContainsFunc(f.patterns, func(p channel.Pattern) bool { return p.Overlaps(read) })
	})
}

func (h *Hook) filter() (f filter) {
	f.events = h.Events
	for _, pattern := range h.Channels {
		p, _ := channel.ParsePattern(pattern) // Check has found it valid
		f.patterns = append(f.patterns, p)
	}
	return f
}
