package evstream

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi"
)

// Caddy reloads in this order: it provisions and starts the new configuration,
// emits "started" in it, emits "stopping" in the old one, stops the old one's
// apps and cleans up its modules. If anything before "stopping" fails, the new
// configuration is cleaned up, without "stopping".
//
// Open streams of the old handlers survive this:
//
//   - on "started", the brokers get their new settings, and running is set to the
//     new App;
//   - on "stopping", each stream of the old App is handed to the handler of the
//     new one that its request would reach, or ends. It is told to come back where
//     other matchers or handlers stand before that one: they have not seen it;
//   - on Cleanup without "stopping", the work of "started" is undone.

// running holds the App of the running configuration.
var running runningApp

type runningApp struct {
	mu  sync.Mutex // guards app, and the field previous of every App
	app *App
}

func (r *runningApp) get() *App {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.app
}

// followEvents subscribes to "started" and "stopping".
func (a *App) followEvents(ctx caddy.Context) error {
	module, err := ctx.App("events")
	if err != nil {
		return err
	}
	events := module.(*caddyevents.App)
	a.events = caddyEvents{ctx: ctx, app: events}
	if err := events.On("started", eventHandler{func() { a.begin(ctx) }}); err != nil {
		return err
	}
	return events.On("stopping", eventHandler{a.end})
}

// eventHandler calls a function on an event.
type eventHandler struct{ do func() }

// Handle implements caddyevents.Handler.
func (h eventHandler) Handle(context.Context, caddy.Event) error {
	h.do()
	return nil
}

// begin makes a the running App.
func (a *App) begin(ctx caddy.Context) {
	a.locate(ctx)
	running.mu.Lock()
	a.previous, running.app = running.app, a
	running.mu.Unlock()
	a.configure()
}

// configure applies the settings of this configuration to its brokers.
func (a *App) configure() {
	for name, h := range a.hubs {
		if err := h.setConfig(a.settings[name]); err != nil {
			logger.Error("changing the configuration of a broker", slog.String("broker", name), slog.Any("error", err))
		}
	}
}

// end is called when the configuration stops. If the process exits, it drains all
// streams; otherwise it hands over those of a.
func (a *App) end() {
	if caddy.Exiting() {
		for _, h := range hubs.all() {
			if n := h.Stats().Streams; n > 0 {
				logger.Info("the exit waits for open streams to end, each at a random moment of drain; a second ^C does not wait",
					slog.String("broker", h.Name()), slog.Int("streams", n))
			}
			h.Drain(a.grace)
		}
		return
	}
	running.mu.Lock()
	switch next := running.app; {
	case next == a:
		running.app = nil
	case next != nil && next.previous == a:
		next.previous = nil
	}
	running.mu.Unlock()
	a.retire()
}

// abandon undoes begin, unless end was called. Streams that requests have begun
// in a meanwhile are handed over to the running App.
func (a *App) abandon() {
	running.mu.Lock()
	var back *App
	if running.app == a {
		back, running.app = a.previous, a.previous
	}
	a.previous = nil
	running.mu.Unlock()
	if back != nil {
		back.configure()
	}
	if !caddy.Exiting() {
		a.retire()
	}
}

// retire hands the streams of a over to the running App. A stream that begins in
// a later is handed over at once, by its handler.
func (a *App) retire() {
	if a.retired.Swap(true) {
		return
	}
	if a.replaced != nil { // nil where Provision was never called
		close(a.replaced)
	}
	for _, h := range a.hubs {
		if all, refused, ended := httpapi.HandOver(h.Hub, a); all > 0 {
			logger.Info("open streams went over to the new configuration, but for those that are refused or ended",
				slog.String("broker", h.Name()), slog.Int("streams", all), slog.Int("refused", refused), slog.Int("ended", ended))
		}
		httpapi.HandOver(h.Hub, adminReload{})
	}
}

// Replaced implements httpapi.Reload.
func (a *App) Replaced() <-chan struct{} { return a.replaced }

// Successor implements httpapi.Reload: it asks the running App.
func (a *App) Successor(old *httpapi.Handler, record any, was *access.Caller, judge httpapi.Judge) (*httpapi.Handler, *access.Caller, error) {
	next := running.get()
	i := slices.IndexFunc(a.handlers, func(h *Handler) bool { return h.api == old })
	if next == nil || i < 0 {
		return nil, nil, httpapi.ErrReplaced
	}
	return next.successor(a.handlers[i], record.(recordedRequest), was, judge)
}

// successor finds the handler that a request to the handler old would reach in
// this configuration. If it may be several, all of them must allow the request; of those
// that take over, one behind which stands the same is the one.
func (a *App) successor(old *Handler, request recordedRequest, was *access.Caller, judge httpapi.Judge) (*httpapi.Handler, *access.Caller, error) {
	var found *httpapi.Handler
	var who *access.Caller
	sameWay := false
	servers := a.sameServer(old.route)
	for _, h := range a.handlers {
		if h.kind() != old.kind() || !slices.Contains(servers, h.route.server) || !strings.EqualFold(h.api.Mount(), old.api.Mount()) {
			continue
		}
		r, err := request.request(h.route.http)
		if err != nil {
			return nil, nil, httpapi.ErrReplaced
		}
		if !h.mayReach(r) {
			continue
		}
		if h.api.Hub() != old.api.Hub() {
			return nil, nil, httpapi.ErrReplaced // another log, or another broker
		}
		by, err := judge(h.api, auth.Again(r, was))
		if err != nil {
			return nil, nil, err
		}
		same := h.wayOf(r, !request.moved) == old.wayOf(r, !request.moved)
		if found == nil || same && !sameWay && h.takesOver() {
			found, who = h.api, by
		}
		sameWay = sameWay || same
	}
	switch {
	case found == nil:
		return nil, nil, httpapi.ErrReplaced
	case !sameWay:
		return found, who, httpapi.ErrRerouted
	}
	return found, who, nil
}

// adminReload is the Reload of the admin endpoint, which belongs to no
// configuration. Its streams go on as long as their broker is declared.
type adminReload struct{}

// Replaced implements httpapi.Reload.
func (adminReload) Replaced() <-chan struct{} { return nil }

// Successor implements httpapi.Reload.
func (adminReload) Successor(old *httpapi.Handler, _ any, was *access.Caller, _ httpapi.Judge) (*httpapi.Handler, *access.Caller, error) {
	if app := running.get(); app != nil {
		for _, h := range app.hubs {
			if h.Hub == old.Hub() {
				return old, was, nil
			}
		}
	}
	return nil, nil, httpapi.ErrReplaced
}
