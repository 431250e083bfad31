package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/problem"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin serves the HTTP API at Caddy's admin endpoint, beneath /evstream/: a
// backend on the same host publishes to /evstream/match.7 without a token.
// Everything is allowed. The query parameter "broker" selects the broker; by
// default it is "default".
type Admin struct{}

// adminMount is the mount at the admin endpoint.
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

// serve looks up the broker in the running configuration, for each request:
// Caddy makes this module before the configuration's apps, keeps it if they
// fail, and never cleans it up.
//
// Errors are answered here, because Caddy would answer each with status 500.
func (a *Admin) serve(w http.ResponseWriter, r *http.Request) error {
	// The admin endpoint has a read deadline of 10 s, which would end streams
	// and long bodies. If it cannot be lifted, there is none.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})

	name := defaultBroker
	if q := r.URL.Query(); q.Has("broker") {
		name = q.Get("broker")
	}
	app := running.get()
	if app == nil {
		return refuseAdmin(w, "no configuration with a broker is running")
	}
	hub := app.hubs[name]
	if hub == nil {
		return refuseAdmin(w, fmt.Sprintf("there is no broker %q; the brokers are: %s", name, strings.Join(app.names(), ", ")))
	}
	e, err := httpapi.New(hub.Hub, httpapi.Config{
		Mount: adminMount, Access: access.AllowAll(), Host: new(caddyHost), Reload: adminReload{}, Logger: logger,
	})
	if err != nil {
		return err
	}
	e.ServeHTTP(w, r)
	return nil
}

// refuseAdmin answers that there is no such broker.
func refuseAdmin(w http.ResponseWriter, why string) error {
	body, err := problem.NotFound.Because("%s", why).MarshalJSON()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // JSON, with nosniff
	return nil
}

// Interface guards
var (
	_ caddy.Module      = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
