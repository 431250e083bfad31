package evstream

import (
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
	if serveHealth(w, r, app) {
		return nil
	}
	if app == nil {
		answerProblem(w, problem.NotFound.Because("no configuration with a broker is running"))
		return nil
	}
	hub := app.hubs[name]
	if hub == nil {
		answerProblem(w, problem.NotFound.Because("there is no broker %q; the brokers are: %s", name, strings.Join(app.names(), ", ")))
		return nil
	}
	if serveLog(w, r, name, hub) || app.serveGrip(w, r, name, hub) {
		return nil
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

// answerProblem answers with a problem, whose texts an operator gets in full.
func answerProblem(w http.ResponseWriter, p *problem.Error) {
	body, err := p.MarshalJSON()
	if err != nil {
		body = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status())
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // JSON, with nosniff
}

// Interface guards
var (
	_ caddy.Module      = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
