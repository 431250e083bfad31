// Package evstream is realtime for Caddy: a channel is a URL. GET subscribes
// to it as a stream of server-sent events, POST publishes to it.
//
// This package holds the Caddy modules. The packages below it work without Caddy:
// [github.com/evstream/caddy-evstream/httpapi] is the same hub as an http.Handler.
package evstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/console"
	"github.com/evstream/caddy-evstream/h3stream"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/takeover/grip"
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(Handler))
}

// appState is what an App holds once it is provisioned.
type appState struct {
	exposed  map[*caddyhttp.Server]bool // servers on which exposeConnections was called
	fronted  map[*caddyhttp.Server]bool // and those on which frontHTTP2 was
	hubs     map[string]*openHub        // by the broker's name
	settings map[string]*brokerSettings
	keys     []hubKey   // the references that this App holds in the pool
	handlers []*Handler // of this configuration, in the order of their routes
	events   caddyEvents

	// Set on the event "started".
	servers  map[string][]string      // the addresses that each server listens on
	sites    atomic.Pointer[[]string] // all of them; may be read before they are set
	grace    time.Duration            // the http app's grace_period; 0 is unlimited
	previous *App                     // that ran before this one, until it has stopped

	retired  atomic.Bool   // retire was called
	replaced chan struct{} // closed by retire
	check    func() error  // of the handlers, when all are provisioned
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "evstream",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision opens the brokers, or shares those that the running configuration has
// open. Their limits change only when this configuration has started, because
// until then it may be rolled back.
func (a *App) Provision(ctx caddy.Context) error {
	a.hubs = make(map[string]*openHub)
	a.settings = make(map[string]*brokerSettings)
	a.replaced = make(chan struct{})
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	if err := a.followEvents(ctx); err != nil {
		return err
	}
	a.check = func() error {
		module, err := ctx.AppIfConfigured("http")
		if err != nil {
			return nil //nolint:nilerr // a configuration without servers
		}
		for _, server := range module.(*caddyhttp.App).Servers {
			if err := checkMounts(server); err != nil {
				return err
			}
		}
		return nil
	}
	declared := maps.Clone(a.Brokers)
	if _, ok := declared[defaultBroker]; !ok {
		if declared == nil {
			declared = make(map[string]*BrokerConfig)
		}
		declared[defaultBroker] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		c := declared[name]
		if err := a.open(ctx, name, c); err != nil {
			if err = fmt.Errorf("broker %q: %w", name, err); c == nil {
				return err
			}
			return c.Source.locate(err)
		}
	}
	return nil
}

// open takes a reference to the hub of a broker.
func (a *App) open(ctx caddy.Context, name string, c *BrokerConfig) error {
	if c == nil {
		c = new(BrokerConfig)
	}
	if err := checkBrokerName(name); err != nil {
		return err
	}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	settings.hub.Name = name
	if settings.hub.Rules, err = c.publishRules(); err != nil {
		return err
	}
	if settings.hooks, err = c.plainHooks(); err != nil {
		return err
	}
	var adapter Adapter = MemoryAdapter{}
	if c.AdapterRaw != nil {
		module, err := ctx.LoadModule(c, "AdapterRaw")
		if err != nil {
			return fmt.Errorf("loading the adapter: %w", err)
		}
		var ok bool
		if adapter, ok = module.(Adapter); !ok {
			return fmt.Errorf("the adapter %T is not an evstream.Adapter", module)
		}
	}
	if err := a.checkDirectory(name, adapter); err != nil {
		return err
	}
	key := hubKey{
		name:     name,
		adapter:  string(adapter.(caddy.Module).CaddyModule().ID),
		identity: adapter.Identity(name),
	}
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newOpenHub(key, adapter, settings.hub)
	})
	if err != nil {
		return err
	}
	a.keys = append(a.keys, key)
	a.hubs[name] = value.(*openHub)
	settings.adapter, settings.events = adapter, &a.events
	a.settings[name] = settings
	return nil
}

// Start implements caddy.App. It checks what is known once all apps are provisioned,
// and opens logs on the disk: a configuration that is only validated leaves those to
// the Caddy that runs. The App starts in begin, on the event "started".
func (a *App) Start() error {
	if a.check == nil { // Provision was never called
		return nil
	}
	if err := a.check(); err != nil {
		return err
	}
	for _, name := range a.names() {
		if err := a.hubs[name].start(); err != nil {
			return fmt.Errorf("broker %q: opening the log: %w", name, nameHolder(a.hubs[name], err))
		}
	}
	return nil
}

// checkDirectory reports that another broker has the directory of an adapter.
func (a *App) checkDirectory(name string, adapter Adapter) error {
	bolt, ok := adapter.(*BoltAdapter)
	if !ok {
		return nil
	}
	for _, other := range a.keys {
		if other.adapter == string(bolt.CaddyModule().ID) && other.identity == bolt.Identity(name) {
			return fmt.Errorf("the directory %s is that of broker %q: each broker needs one of its own", other.identity, other.name)
		}
	}
	return nil
}

// Stop implements caddy.App. When the process exits it waits for all streams,
// because Caddy's server does not wait for detached ones. They are ended or
// handed over on the event "stopping".
func (a *App) Stop() error {
	if caddy.Exiting() {
		for _, h := range hubs.all() {
			h.Wait(context.Background())
		}
		flushHooks(a.grace)
	}
	return nil
}

// Cleanup releases what Provision acquired, even if Provision has failed.
func (a *App) Cleanup() error {
	a.abandon()
	var errs []error
	for _, key := range a.keys {
		if _, err := pool.Delete(key); err != nil {
			errs = append(errs, fmt.Errorf("closing broker %q: %w", key.name, err))
		}
	}
	a.keys = nil
	return errors.Join(errs...)
}

// hub returns the hub of a broker that the configuration knows.
func (a *App) hub(name string) (*openHub, error) {
	if h, ok := a.hubs[name]; ok {
		return h, nil
	}
	return nil, fmt.Errorf("there is no broker %q; the brokers are: %s", name, strings.Join(a.names(), ", "))
}

// names returns the names of the brokers, sorted.
func (a *App) names() []string { return slices.Sorted(maps.Keys(a.hubs)) }

// handlerState is what a Handler holds once it is provisioned.
type handlerState struct {
	checkBroker func(d *caddyfile.Dispenser, name string) error // while a Caddyfile is read

	api      *httpapi.Handler
	gripKeys *grip.Keys       // nil without GRIP
	takeover takeoverHandler  // nil if channels are served
	console  *console.Console // nil if it is not served
	auth     *auth.Authenticator
	host     caddyHost
	route    route
	ways     atomic.Pointer[[]way] // set on the event "started"; nil if they are not known
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.evstream",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the broker and makes the HTTP API. The App owns the broker, the
// handler its authenticator.
func (h *Handler) Provision(ctx caddy.Context) error {
	module, err := ctx.App("evstream")
	if err != nil {
		return err // the App says where
	}
	return h.Source.locate(h.provision(ctx, module.(*App)))
}

func (h *Handler) provision(ctx caddy.Context, app *App) error {
	streams, err := h.settings()
	if err != nil {
		return err
	}
	if err := httpapi.CheckMount(h.Mount); err != nil {
		return err
	}
	if h.OnOverload != "" && h.OnOverload != "retry" && h.OnOverload != "503" {
		return fmt.Errorf("on_overload must be \"retry\" or \"503\", not %q", h.OnOverload)
	}
	if err := h.checkTakeover(); err != nil {
		return err
	}
	if len(h.Allow) == 0 && h.needsRules() {
		return errNoRule
	}
	c := h.authConfig()
	if err := c.Check(httpapi.Parameters()); err != nil {
		return err
	}
	if err := resolve(c); err != nil {
		return err
	}
	if err := auth.CheckBearers(c.Bearers); err != nil {
		return err
	}
	policy, err := h.policy(ctx, c)
	if err != nil {
		return err
	}
	if err := httpapi.CheckAmbient(h.CORS, c); err != nil {
		return err
	}
	if h.CaddyAuth && slices.ContainsFunc(h.Allow, func(r AllowRule) bool { return r.Who == access.Anyone }) {
		ctx.Slogger().Warn("caddy_auth beside \"allow anyone\": such a rule also holds for a request that the handler in front did not see; \"allow user\" is for those whom it has authenticated",
			slog.String("mount", h.Mount))
	}
	name := h.Broker
	if name == "" {
		name = defaultBroker
	}
	hub, err := app.hub(name)
	if err != nil {
		return err
	}
	if h.auth, err = auth.Open(c, auth.Deps{
		Revocations: hub.Hub, TicketStore: hub.Hub,
		Scope: []string{name, h.Mount}, TicketKey: ticketKeyOfProcess(),
		KeySets: keySets, Forbid: forbidOwnPort, ClientIP: clientIP,
		InFront:   func(r *http.Request) bool { return outerUser(r) != "" },
		ReadEvent: httpapi.ReadEvent, Logger: ctx.Slogger(),
	}); err != nil {
		return err
	}
	h.route = routeOf(ctx)
	if h.route.http != nil {
		h.host.log = newAccessLog(ctx, h.route.http)
		if !app.exposed[h.route.http] { // it is the server's first handler
			if err := checkRawMounts(h.route.http); err != nil {
				return err
			}
		}
		app.exposeConnections(h.route.http)
		if !streams.Attached {
			app.frontHTTP2(h.route.http)
		}
	}
	if h.api, err = httpapi.New(hub.Hub, httpapi.Config{
		Mount: h.Mount, Access: policy, Auth: h.auth, CORS: h.CORS, IgnoreQuery: h.IgnoreQuery, Streams: streams,
		MaxBody: h.MaxBody.or(httpapi.DefaultMaxBody), RefuseOverload: h.OnOverload == "503",
		Host: &h.host, Taker: h3stream.Take, Reload: app, Logger: ctx.Slogger(),
	}); err != nil {
		return err
	}
	if err := h.provisionTakeover(ctx, hub, app.settings[name]); err != nil {
		return err
	}
	if err := h.provisionConsole(hub); err != nil {
		return err
	}
	app.handlers = append(app.handlers, h)
	return nil
}

// What outlives a configuration, besides the hubs.
var (
	// keySets caches the keys of JWKS URLs.
	keySets = auth.NewKeySets(forbidOwnPort, logger)
	// ticketKeyOfProcess returns the key of tickets if none is configured.
	ticketKeyOfProcess = sync.OnceValue(auth.NewTicketKey)
)

// Cleanup releases what Provision acquired, even if Provision has failed.
func (h *Handler) Cleanup() error {
	if h.auth != nil {
		h.auth.Close()
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.takeover != nil {
		with, end := traced(r, h.api.Hub().Name())
		defer end()
		return h.takeover.Serve(w, with, next.ServeHTTP)
	}
	if h.console != nil {
		if ours, err := h.console.Serve(w, r); ours {
			return err
		}
	}
	with, end := traced(r, h.api.Hub().Name())
	defer end()
	ours, err := h.api.Serve(w, with)
	if !ours {
		return next.ServeHTTP(w, r)
	}
	return err
}

// Interface guards
var (
	_ caddy.App                   = (*App)(nil)
	_ caddy.Provisioner           = (*App)(nil)
	_ caddy.CleanerUpper          = (*App)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
