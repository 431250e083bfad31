package evstream

import (
	"errors"
	"slices"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/console"
)

// checkConsole reports that nobody could use the console.
func (h *Handler) checkConsole() error {
	allows := func(r AllowRule) bool { return slices.Contains(r.Do, access.Console) }
	if h.Console && h.JWT == nil && !slices.ContainsFunc(h.Allow, allows) {
		return errors.New(`console needs a rule of its own, such as "allow admin console **" for a bearer named admin: no other rule allows it, nor does "all"`)
	}
	return nil
}

// provisionConsole makes the operator's page, if it is wanted.
func (h *Handler) provisionConsole(hub *openHub) error {
	if !h.Console {
		return nil
	}
	if err := h.checkConsole(); err != nil {
		return err
	}
	log := func() console.Log {
		l := console.Log{Adapter: hub.kind}
		if disk, ok := hub.log.(diskLog); ok {
			s := disk.Stats()
			l.Size, l.Free = s.Size, s.MetaFree
		}
		return l
	}
	var err error
	h.console, err = console.New(h.api, hub.Hub, console.Config{Log: log})
	return err
}
