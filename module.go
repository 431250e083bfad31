// Package evstream is realtime for Caddy: a channel is a URL. GET subscribes
// to it as a stream of server-sent events, POST publishes to it.
//
// The package is Caddy's face of the hub. The engine is in the packages
// [github.com/evstream/caddy-evstream/broker] and
// [github.com/evstream/caddy-evstream/stream], which do without Caddy.
package evstream

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(Handler))
}

// appState is what an App holds once it is provisioned.
type appState struct {
	exposed  map[*caddyhttp.Server]bool // servers that tell handlers their connections
	hubs     map[string]*hub            // by the broker's name
	settings map[string]brokerSettings
	keys     []hubKey   // of the references that this App holds in the pool
	handlers []*Handler // of this configuration, in the order of their routes

	// What is known from the event "started" on.
	servers  map[string][]string      // all servers, and the addresses they listen on
	sites    atomic.Pointer[[]string] // those addresses, for who may ask before it is known
	grace    time.Duration            // the http app's grace_period; 0 is without end
	previous *App                     // what ran before this one, until it has stopped

	retired  atomic.Bool   // it was replaced, and its streams are handed over
	replaced chan struct{} // closed then
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "evstream",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision opens the brokers, or goes on with those that a running
// configuration has open. Their bounds change only once the configuration has
// started: until then it may still be rolled back.
func (a *App) Provision(ctx caddy.Context) error {
	a.hubs = make(map[string]*hub)
	a.settings = make(map[string]brokerSettings)
	a.replaced = make(chan struct{})
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	if err := a.followEvents(ctx); err != nil {
		return err
	}
	declared := maps.Clone(a.Brokers)
	if _, ok := declared[defaultBroker]; !ok {
		if declared == nil {
			declared = make(map[string]*BrokerConfig)
		}
		declared[defaultBroker] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if err := a.open(ctx, name, declared[name]); err != nil {
			return fmt.Errorf("broker %q: %w", name, err)
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
	if settings.channels, err = c.channelRules(); err != nil {
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
	key := hubKey{
		name:     name,
		adapter:  string(adapter.(caddy.Module).CaddyModule().ID),
		identity: adapter.Identity(name),
	}
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		return openHub(key, adapter, settings)
	})
	if err != nil {
		return err
	}
	a.keys = append(a.keys, key)
	a.hubs[name] = value.(*hub)
	settings.adapter = adapter
	a.settings[name] = settings
	return nil
}

// Start implements caddy.App. What there is to start begins with the event
// "started", when nothing can be rolled back any more.
func (a *App) Start() error { return nil }

// Stop implements caddy.App. Streams are looked after on the event "stopping";
// when the process exits this waits for them, because Caddy's server does not
// wait for those that are detached.
func (a *App) Stop() error {
	if caddy.Exiting() {
		for _, h := range hubs.all() {
			h.await()
		}
	}
	return nil
}

// Cleanup gives back what Provision took, also after half a Provision.
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
func (a *App) hub(name string) (*hub, error) {
	if h, ok := a.hubs[name]; ok {
		return h, nil
	}
	return nil, fmt.Errorf("there is no broker %q; the brokers are: %s", name, strings.Join(a.names(), ", "))
}

// names returns the names of the brokers, sorted.
func (a *App) names() []string { return slices.Sorted(maps.Keys(a.hubs)) }

// handlerState is what a Handler holds once it is provisioned.
type handlerState struct {
	endpoint atomic.Pointer[endpoint]
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.evstream",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the broker and makes the endpoint. The App holds the brokers;
// what identifies callers is the handler's to give back.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := checkMount(h.Mount); err != nil {
		return err
	}
	settings, err := h.settings()
	if err != nil {
		return err
	}
	e := &endpoint{
		mount:    h.Mount,
		place:    placeOf(ctx),
		stream:   settings,
		maxBody:  h.MaxBody.or(defaultMaxBody),
		overload: http.StatusOK,
		logger:   ctx.Slogger(),
	}
	switch h.OnOverload {
	case "", "retry":
	case "503":
		e.overload = http.StatusServiceUnavailable
	default:
		return fmt.Errorf("on_overload must be \"retry\" or \"503\", not %q", h.OnOverload)
	}

	if len(h.Allow) == 0 {
		return errors.New("nothing is allowed: a handler needs at least one rule, such as \"allow anyone subscribe **\"")
	}
	bearers, err := resolveSecrets(h.Bearers)
	if err != nil {
		return err
	}
	if e.access, err = newAccess(h.Allow, bearers); err != nil {
		return err
	}
	if err := e.access.addMatchers(ctx, h.Allow); err != nil {
		return err
	}
	for _, r := range h.Allow {
		if err := h.checkUsers(r); err != nil {
			return fmt.Errorf("%s: %w", ruleText(r), err)
		}
	}
	if e.cors, err = newCORS(h.CORS); err != nil {
		return err
	}
	if err := h.checkAmbient(e.cors); err != nil {
		return err
	}

	module, err := ctx.App("evstream")
	if err != nil {
		return err
	}
	e.app = module.(*App)
	name := h.Broker
	if name == "" {
		name = defaultBroker
	}
	if e.hub, err = e.app.hub(name); err != nil {
		return err
	}
	if err := e.access.open(h, e.hub, e.logger); err != nil {
		return errors.Join(err, e.access.close())
	}
	if e.place.http != nil {
		e.log = newAccessLog(ctx, e.place.http)
		e.app.exposeConnections(e.place.http)
	}
	h.endpoint.Store(e)
	e.app.handlers = append(e.app.handlers, h)
	return nil
}

// Cleanup gives back what Provision took, also after half a Provision.
func (h *Handler) Cleanup() error {
	if e := h.endpoint.Load(); e != nil {
		return e.access.close()
	}
	return nil
}

// resolveSecrets replaces the placeholders of each secret.
func resolveSecrets(secrets map[string]string) (map[string]string, error) {
	repl := caddy.NewReplacer()
	resolved := make(map[string]string, len(secrets))
	for name, raw := range secrets {
		secret, err := repl.ReplaceOrErr(raw, true, true)
		if err != nil {
			return nil, fmt.Errorf("the secret of bearer %q: %w", name, err)
		}
		if secret == "" {
			return nil, fmt.Errorf("the secret of bearer %q is empty", name)
		}
		resolved[name] = secret
	}
	return resolved, nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.endpoint.Load().serve(w, r, next)
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
