package evstream

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// route is the server that a handler belongs to.
type route struct {
	server string
	http   *caddyhttp.Server // nil for a handler outside of a server
	listen []string          // the server's addresses
}

// routeOf returns the route of the handler that is being provisioned.
func routeOf(ctx caddy.Context) route {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return route{}
	}
	return route{server: server.Name(), http: server, listen: slices.Clone(server.Listen)}
}

// mayReach reports whether r may reach the handler, as far as its host decides.
func (h *Handler) mayReach(r *http.Request) bool {
	ways := h.ways.Load()
	if _, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok || ways == nil {
		return true // matchers need a Replacer
	}
	return slices.ContainsFunc(*ways, func(w way) bool { return w.mayTake(r) })
}

// sameServer returns the names of this configuration's servers that take the place
// of that of r: those that listen on one of its addresses, or else that of its
// name. Names alone do not suffice: a Caddyfile's servers are numbered anew.
func (a *App) sameServer(r route) []string {
	var same []string
	for name, listen := range a.servers {
		if slices.ContainsFunc(listen, func(address string) bool { return slices.Contains(r.listen, address) }) {
			same = append(same, name)
		}
	}
	if same == nil {
		same = append(same, r.server)
	}
	return same
}

// locate finds the addresses of the servers, and the ways to each handler.
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
		ways := make(map[*Handler][]way)
		walk := routeWalk{named: server.NamedRoutes, visit: func(h *Handler, w way) {
			ways[h] = append(ways[h], w)
			if rest, ok := strings.CutPrefix(h.Mount, w.stripped); ok && w.stripped != "" && (rest == "" || rest[0] == '/') {
				logger.Warn("a handler in front takes the mount off the path, so channels are beneath it twice: within handle_path, or after uri strip_prefix, write evstream without a path",
					slog.String("mount", h.Mount), slog.String("stripped", w.stripped), slog.String("channels", w.stripped+h.Mount+"/"))
			}
			if w.errorRoute || slices.ContainsFunc(handled, func(route caddyhttp.Route) bool {
				return hostsOverlap(w.hosts, hostMatchers(route.MatcherSets))
			}) {
				h.host.errorRoute.Store(true)
			}
		}}
		walk.routes(server.Routes, way{})
		for _, h := range a.handlers {
			if h.route.http == server && ways[h] == nil {
				ways[h] = []way{walk.hidden(server.Routes, handled)}
			}
		}
		for h, list := range ways {
			h.ways.Store(&list)
		}
	}
}

// hostMatchers returns the host matchers of a route, of which one must match, or
// nil if the route may match any host.
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

// hostsOverlap reports whether others may match the host of a request that hosts
// match.
func hostsOverlap(hosts [][]*caddyhttp.MatchHost, others []*caddyhttp.MatchHost) bool {
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
