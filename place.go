package evstream

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// place is which requests reach a handler, as far as it can be told for a
// request that came long ago: its server, and its host.
type place struct {
	server string
	http   *caddyhttp.Server // nil outside of one
	listen []string          // the server's addresses
	// hosts holds, for each of the routes that lead to the handler and match
	// hosts, the matchers of which one must match. Empty is any host.
	hosts [][]*caddyhttp.MatchHost
}

// placeOf returns the place of the handler that is being provisioned, with any
// host: routes are known only once all are provisioned.
func placeOf(ctx caddy.Context) place {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return place{}
	}
	return place{server: server.Name(), http: server, listen: slices.Clone(server.Listen)}
}

// reaches reports whether r may come to this place, as far as its host tells.
func (p place) reaches(r *http.Request) bool {
	if _, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok {
		return true // matchers need it
	}
	for _, alternatives := range p.hosts {
		if !slices.ContainsFunc(alternatives, func(m *caddyhttp.MatchHost) bool { return m.Match(r) }) {
			return false
		}
	}
	return true
}

// sameServer returns the servers of this configuration that are the one of p:
// those that listen on one of its addresses, or else that of its name. A name
// alone does not tell: the Caddyfile numbers servers anew each time.
func (a *App) sameServer(p place) []string {
	var same []string
	for name, listen := range a.servers {
		if slices.ContainsFunc(listen, func(address string) bool { return slices.Contains(p.listen, address) }) {
			same = append(same, name)
		}
	}
	if same == nil {
		same = append(same, p.server)
	}
	return same
}

// locate finds the routes that lead to each handler.
func (a *App) locate(ctx caddy.Context) {
	a.servers = make(map[string][]string)
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return // a configuration without servers
	}
	app := module.(*caddyhttp.App)
	a.grace = time.Duration(app.GracePeriod)
	var sites []string
	for _, server := range app.Servers {
		sites = append(sites, server.Listen...)
	}
	a.sites.Store(&sites)
	for name, server := range app.Servers {
		a.servers[name] = server.Listen
		var handled caddyhttp.RouteList
		if server.Errors != nil {
			handled = server.Errors.Routes
		}
		walkRoutes(server.Routes, nil, false, func(h *Handler, hosts [][]*caddyhttp.MatchHost, errorRoute bool) {
			e := *h.endpoint.Load()
			e.place.hosts = hosts
			e.errorRoute = errorRoute || slices.ContainsFunc(handled, func(route caddyhttp.Route) bool {
				return hostsMeet(hosts, hostMatchers(route.MatcherSets))
			})
			h.endpoint.Store(&e)
		})
	}
}

// walkRoutes visits the handlers that routes lead to, with the host matchers on
// the way, and whether errors are handled on the way. Routes within other
// modules than subroutes are not seen.
func walkRoutes(routes caddyhttp.RouteList, hosts [][]*caddyhttp.MatchHost, errorRoute bool,
	visit func(h *Handler, hosts [][]*caddyhttp.MatchHost, errorRoute bool),
) {
	for _, route := range routes {
		beneath := hosts
		if matchers := hostMatchers(route.MatcherSets); matchers != nil {
			beneath = append(slices.Clip(hosts), matchers)
		}
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Handler:
				visit(h, beneath, errorRoute)
			case *caddyhttp.Subroute:
				handled := h.Errors != nil && len(h.Errors.Routes) > 0
				walkRoutes(h.Routes, beneath, errorRoute || handled, visit)
			}
		}
	}
}

// hostMatchers returns the host matchers of a route, of which one must match,
// or nil where the route may match any host.
func hostMatchers(sets caddyhttp.MatcherSets) []*caddyhttp.MatchHost {
	var matchers []*caddyhttp.MatchHost
	for _, set := range sets {
		i := slices.IndexFunc(set, func(m any) bool { _, ok := m.(*caddyhttp.MatchHost); return ok })
		if i < 0 {
			return nil
		}
		matchers = append(matchers, set[i].(*caddyhttp.MatchHost))
	}
	return matchers
}

// hostsMeet reports whether a request that comes to hosts may be one that
// others match.
func hostsMeet(hosts [][]*caddyhttp.MatchHost, others []*caddyhttp.MatchHost) bool {
	if len(hosts) == 0 || len(others) == 0 {
		return true
	}
	for _, m := range slices.Concat(hosts...) {
		for _, o := range others {
			if slices.ContainsFunc(*m, func(host string) bool {
				return slices.ContainsFunc(*o, func(other string) bool { return strings.EqualFold(host, other) })
			}) {
				return true
			}
		}
	}
	return false
}
