package evstream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/evstream/caddy-evstream/stream"
)

// A reload, as Caddy does it: the new configuration is provisioned and
// started, the event "started" is emitted in it, then "stopping" in the old
// one, whose apps are stopped and whose modules are cleaned up. Anything up to
// and including what follows "started" may fail, and the new configuration is
// cleaned up then, without "stopping".
//
// Open streams survive all of it, in the old handlers. So:
//
//   - on "started", what brokers are configured with is swapped, and running
//     points to the new App;
//   - on "stopping", each stream of the old App is handed to the endpoint of
//     the new one that its request would reach, or ends;
//   - on Cleanup without "stopping", all that is undone.

// running is the App of the configuration that runs.
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

// successor is App.successor of the App that runs; there may be none.
func (r *runningApp) successor(old *endpoint, request asked, was caller, judge judge) (succession, error) {
	app := r.get()
	if app == nil {
		return succession{}, errReplaced
	}
	return app.successor(old, request, was, judge)
}

// followEvents subscribes to the events of the life of a configuration.
func (a *App) followEvents(ctx caddy.Context) error {
	module, err := ctx.App("events")
	if err != nil {
		return err
	}
	events := module.(*caddyevents.App)
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

// begin makes a the App that runs.
func (a *App) begin(ctx caddy.Context) {
	a.locate(ctx)
	running.mu.Lock()
	a.previous, running.app = running.app, a
	running.mu.Unlock()
	a.configure()
}

// configure gives the brokers what this configuration says of them.
func (a *App) configure() {
	for name, h := range a.hubs {
		if err := h.configure(a.settings[name]); err != nil {
			logger.Error("changing the configuration of a broker", slog.String("broker", name), slog.Any("error", err))
		}
	}
}

// end looks after the streams of a configuration that stops: because the
// process exits, or because another configuration runs, or none.
func (a *App) end() {
	if caddy.Exiting() {
		for _, h := range hubs.all() {
			h.leave(a.grace)
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

// abandon undoes begin, where a was given up without being stopped. Requests
// may have reached it: what they began goes on in what runs.
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

// retire hands the streams of a over to the App that runs. From then on, what
// still begins in a is handed over at once, by hub.add.
func (a *App) retire() {
	if a.retired.Swap(true) {
		return
	}
	if a.replaced != nil { // nil where Provision was never called
		close(a.replaced)
	}
	for _, h := range a.hubs {
		for _, l := range h.list() {
			h.handOver(l, a)
		}
	}
}

// handOver finds the endpoint that goes on with a stream of the App from, or
// ends the stream.
func (h *hub) handOver(l *live, from *App) {
	h.mu.Lock()
	old := l.endpoint
	h.mu.Unlock()
	if old.app == nil {
		// A stream of the admin endpoint: it needs no more than its broker.
		if app := running.get(); app == nil || app.hubs[h.key.name] != h {
			l.session.Close(stream.ReasonReload)
		}
		return
	}
	if old.app != from {
		return
	}
	next, err := running.successor(old, l.asked, *l.who, l.judge)
	switch {
	case errors.Is(err, errReplaced):
		l.session.Close(stream.ReasonReload)
		return
	case err != nil:
		l.session.Close(stream.ReasonRefused)
		return
	}
	h.mu.Lock()
	next.take(l)
	h.mu.Unlock()
	if within := old.stream.onReloadDrain; within > 0 {
		l.session.Drain(within, stream.ReasonReload)
	}
}

// succession is what goes on with a stream: an endpoint, and who the stream's
// request comes from by its rules.
type succession struct {
	endpoint *endpoint
	who      caller
}

// take gives the stream to its new endpoint. The caller holds hub.mu.
func (s succession) take(l *live) { l.endpoint, l.who = s.endpoint, s.who.kept() }

// judge decides for an endpoint about a request that is made again: who makes
// it now, and an error if it would be refused.
type judge func(e *endpoint, r *http.Request) (caller, error)

// judge is the judge of a stream: all that it reads must be allowed. When it
// ends was settled when it began; one that another credential decides about by
// now, which expires at another time, has to begin anew.
func (l *live) judge(e *endpoint, r *http.Request) (caller, error) {
	who, err := e.mayRead(r, l.session.Channels())
	if was, _ := askedBefore(r); err == nil && !who.expires.Equal(was.expires) {
		err = errReplaced
	}
	return who, err
}

// successor finds the endpoint that a request to the endpoint old would reach
// in this configuration. Where more than one may be meant, all must allow it.
// The error is errReplaced if there is none, and else that of the judge.
func (a *App) successor(old *endpoint, request asked, was caller, judge judge) (succession, error) {
	var found succession
	servers := a.sameServer(old.place)
	for _, h := range a.handlers {
		e := h.endpoint.Load()
		if !slices.Contains(servers, e.place.server) || !strings.EqualFold(e.mount, old.mount) {
			continue
		}
		r, err := request.request(e.place.http)
		if err != nil {
			return succession{}, errReplaced
		}
		if !e.place.reaches(r) {
			continue
		}
		if e.hub != old.hub {
			return succession{}, errReplaced // another log, or another broker
		}
		who, err := judge(e, askAgain(r, was))
		if err != nil {
			return succession{}, err
		}
		if found.endpoint == nil {
			found = succession{e, who}
		}
	}
	if found.endpoint == nil {
		return found, errReplaced
	}
	return found, nil
}

// replaced is closed when another configuration has taken the place of the
// endpoint's. It is nil for the admin endpoint, which is of none.
func (e *endpoint) replaced() <-chan struct{} {
	if e.app == nil {
		return nil
	}
	return e.app.replaced
}

// follow goes on with a request that has outlived its configuration, if it
// has: whoever polls, or publishes for long, is held to the rules of now.
func (e *endpoint) follow(r *http.Request, was caller, judge judge) (succession, error) {
	select {
	case <-e.replaced():
		return running.successor(e, remember(r), was, judge)
	default:
		return succession{e, was}, nil
	}
}

// lastWords is the time at the end of the grace period that is left for writing
// what streams are told last: the server does not wait for it any longer.
const lastWords = 500 * time.Millisecond

// drainWithin bounds a drain time by the grace period; 0 bounds nothing.
func drainWithin(drain, grace time.Duration) time.Duration {
	if grace > 0 {
		return min(drain, grace-min(lastWords, grace/2))
	}
	return drain
}
