package evstream

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin serves the hub's verbs at Caddy's admin endpoint, beneath /evstream/:
// a backend on the same host publishes to /evstream/match.7 with no token.
// Everything is allowed. The parameter "broker" picks another broker than
// "default".
type Admin struct{}

// adminMount is where channels lie at the admin endpoint.
const adminMount = "/evstream"

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.evstream",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminMount, Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: adminMount + "/", Handler: caddy.AdminHandlerFunc(a.serve)},
	}
}

// serve finds the broker with each request, in the configuration that runs:
// Caddy makes this module before that configuration's apps, keeps it if they
// fail, and never cleans it up.
//
// Errors are answered here. Caddy would make each of them a 500.
func (a *Admin) serve(w http.ResponseWriter, r *http.Request) error {
	// The admin endpoint reads requests for no longer than 10 s, which would
	// end streams, and publishing that goes on. Where the deadline cannot be
	// lifted there is none.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})

	settings, err := new(Handler).settings()
	if err != nil {
		return err
	}
	e := &endpoint{
		mount:    adminMount,
		access:   allowAll,
		stream:   settings,
		maxBody:  defaultMaxBody,
		overload: http.StatusOK,
		logger:   logger,
	}
	if e.cors, err = newCORS(nil); err != nil {
		return err
	}
	name := defaultBroker
	if q := r.URL.Query(); q.Has("broker") {
		name = q.Get("broker")
	}
	app := running.get()
	if app == nil {
		return e.fail(w, notFound.because("no configuration with a broker is running"))
	}
	if e.hub = app.hubs[name]; e.hub == nil {
		return e.fail(w, notFound.because("there is no broker %q; the brokers are: %s", name, strings.Join(app.names(), ", ")))
	}
	return e.serve(w, r, nil)
}

// Interface guards
var (
	_ caddy.Module      = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
