package evstream

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/takeover"
)

// takeoverHandler answers all requests of a Handler that serves no channels of its own: it
// has the handler behind answer, and may take the answer over.
type takeoverHandler interface {
	Serve(w http.ResponseWriter, r *http.Request, next takeover.Next) error
}

// takesOver reports whether the handler serves no channels, but takes over what the
// handler behind it answers.
func (h *Handler) takesOver() bool { return h.Handoff != nil }

// checkTakeover reports what cannot stand beside the word that has the handler take over.
func (h *Handler) checkTakeover() error {
	if !h.takesOver() {
		return nil
	}
	switch {
	case h.Mount != "":
		return errors.New("handoff serves no channels, so it has no mount; give channels an evstream block of their own")
	case len(h.Allow) > 0:
		return errors.New("handoff has no rules: the application decides; channels that are served by rules need an evstream block of their own")
	case h.JWT != nil || len(h.Bearers) > 0 || h.Cookie != "" || h.InsecureQueryToken != "" || h.Tickets != nil || h.CaddyAuth || h.Verify != nil:
		return errors.New("handoff takes no credentials: the application decides who gets a stream")
	case len(h.CORS) > 0 || len(h.IgnoreQuery) > 0 || h.MaxBody != 0:
		return errors.New("cors, ignore_query and max_body mean nothing beside handoff: the application reads the request, and says who may read the answer")
	}
	return nil
}

// provisionTakeover makes what answers the requests.
func (h *Handler) provisionTakeover(ctx caddy.Context) {
	if h.Handoff != nil {
		h.takeover = takeover.NewHandoff(h.api, ctx.Slogger())
	}
}

// unmarshalTakeover reads a subdirective of handlers that take over; known reports whether
// it is one.
func (h *Handler) unmarshalTakeover(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "handoff" {
		return false, nil
	}
	if args := d.RemainingArgs(); len(args) > 0 {
		return true, d.Errf("handoff takes no argument, not %q", args[0])
	}
	h.Handoff = new(HandoffConfig)
	return true, nil
}

// takeoverWords are the subdirectives of handlers that take over.
var takeoverWords = []string{"handoff"}

// blockTakesOver reports whether the block of a directive has one of takeoverWords. It
// leaves d before the directive.
func blockTakesOver(d *caddyfile.Dispenser) (has bool) {
	d.Reset()
	d.Next()
	d.RemainingArgs()
	for d.NextBlock(0) {
		has = has || d.Nesting() == 1 && slices.Contains(takeoverWords, d.Val())
		d.RemainingArgs()
	}
	d.Reset()
	return has
}
