package evstream

import (
	"crypto/sha256"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/evstream/caddy-evstream/internal/fingerprint"
)

// way is one of the ways from a server's routes to a handler.
type way struct {
	// hosts has an element for each route on the way that matches hosts: matchers,
	// of which one must match.
	hosts      [][]*caddyhttp.MatchHost
	steps      []step
	behind     []caddyhttp.RouteList // what a request may come to after the handler
	through    []through             // the routes around the handler, from the outermost
	rewrites   int                   // how many handlers change the path on the way
	stripped   string                // the prefix that one of them takes off every path; the last one
	errorRoute bool                  // there are error routes on the way
}

// through is a route around a handler.
type through struct {
	route any                     // identifies it
	sum   fingerprint.Sum         // of its matchers
	all   func(mount string) bool // whether its matchers match every path beneath a mount
}

// step is what a request passes on its way: the matchers of a route, a handler, or a
// whole route beside the way.
type step struct {
	sum    fingerprint.Sum
	beside caddyhttp.MatcherSets // of a route beside the way, which only some requests pass
}

// mayTake reports whether r may take the way, as far as its host decides.
func (w way) mayTake(r *http.Request) bool {
	return !slices.ContainsFunc(w.hosts, func(alternatives []*caddyhttp.MatchHost) bool {
		return !slices.ContainsFunc(alternatives, func(m *caddyhttp.MatchHost) bool { return m.Match(r) })
	})
}

// wayOf returns a digest of all that stands between the server and the handler for a
// request, and zero if that is not known. pathKept is whether no handler has changed
// the request's path: only then its path says which routes it passes.
func (h *Handler) wayOf(r *http.Request, pathKept bool) (sum fingerprint.Sum) {
	ways := h.ways.Load()
	if ways == nil {
		return sum
	}
	digest := sha256.New()
	for _, w := range *ways {
		if !w.mayTake(r) {
			continue
		}
		for i := range w.steps {
			if s := &w.steps[i]; mayMatch(s.beside, r, pathKept) {
				_, _ = digest.Write(s.sum[:])
			}
		}
		_, _ = digest.Write([]byte{0})
	}
	digest.Sum(sum[:0])
	return sum
}

// mayMatch reports whether one of the sets may match r, as far as host and path
// decide. No sets match everything.
func mayMatch(sets caddyhttp.MatcherSets, r *http.Request, pathKept bool) bool {
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool {
			switch m := m.(type) {
			case *caddyhttp.MatchHost:
				return !m.Match(r)
			case *caddyhttp.MatchPath:
				return pathKept && !slices.ContainsFunc(*m, func(p string) bool { return strings.Contains(p, "{") }) && !m.Match(r)
			}
			return false
		})
	})
}

// routeWalk visits the handlers in a server's routes, in their subroutes and in the
// named routes that they invoke. Routes in other modules are not visited:
// see hidden.
type routeWalk struct {
	named   map[string]*caddyhttp.Route
	visit   func(*Handler, way)
	invoked int // how deep in named routes, which may invoke themselves
}

// maxInvoked bounds how deep named routes are followed.
const maxInvoked = 8

// routes visits the handlers in a list of routes, to which w leads.
func (k *routeWalk) routes(list caddyhttp.RouteList, w way) {
	steps := slices.Clip(w.steps)
	for i := range list {
		route := &list[i]
		on := w
		on.steps = slices.Clip(steps)
		on.behind = append(slices.Clip(w.behind), list[i+1:])
		k.route(route, on)
		// The requests that match it may have passed it before they come to the next.
		if deciding := deciding(route.Handlers); len(deciding) > 0 || route.Terminal {
			steps = append(steps, step{k.sum(route.MatcherSets, deciding, route.Terminal), route.MatcherSets})
		}
		w.rewrites += rewrites(route.Handlers...)
		if len(route.MatcherSets) == 0 {
			w.strip(route.Handlers...)
		}
	}
}

// hidden is the way to a handler that the walk does not find, because it stands in the
// routes of another module, such as those for a proxy's answer. Anything that the
// server's routes hold may stand before it.
func (k *routeWalk) hidden(lists ...caddyhttp.RouteList) (w way) {
	w.steps = k.all(lists)
	return w
}

// all are steps through all of the lists.
func (k *routeWalk) all(lists []caddyhttp.RouteList) (steps []step) {
	for _, list := range lists {
		for i := range list {
			steps = append(steps, k.whole(&list[i]))
		}
	}
	return steps
}

// whole is the step through a whole route.
func (k *routeWalk) whole(route *caddyhttp.Route) step {
	return step{k.sum(route.MatcherSets, route.Handlers, route.Terminal), route.MatcherSets}
}

// answering are the steps behind a handler that takes over: what may answer there decides
// about a stream as well. The lists are those of the routes around the handler, from the
// outermost; a request comes to the innermost first, and no further than to a handler that
// answers all. Where one of them changes the path, the path of a request does not say which
// of the routes it passes.
func (k *routeWalk) answering(lists []caddyhttp.RouteList) (steps []step) {
	var passed []*caddyhttp.Route
	for _, list := range slices.Backward(lists) {
		for i := range list {
			passed = append(passed, &list[i])
			if len(list[i].MatcherSets) == 0 && slices.ContainsFunc(list[i].Handlers, answersAll) {
				return k.wholes(passed)
			}
		}
	}
	return k.wholes(passed)
}

func (k *routeWalk) wholes(passed []*caddyhttp.Route) (steps []step) {
	changed := slices.ContainsFunc(passed, changesPath)
	for _, route := range passed {
		s := k.whole(route)
		if changed {
			s.beside = nil
		}
		steps = append(steps, s)
	}
	return steps
}

// answersAll reports whether a handler is known to pass no request on.
func answersAll(handler caddyhttp.MiddlewareHandler) bool {
	proxy, ok := handler.(*reverseproxy.Handler)
	return ok && len(proxy.HandleResponse) == 0
}

// changesPath reports whether a handler in the route may change the path of a request.
func changesPath(route *caddyhttp.Route) bool {
	return slices.ContainsFunc(route.Handlers, func(handler caddyhttp.MiddlewareHandler) bool {
		switch h := handler.(type) {
		case *rewrite.Rewrite:
			return true
		case *caddyhttp.Subroute:
			return slices.ContainsFunc(h.Routes, func(r caddyhttp.Route) bool { return changesPath(&r) })
		case *caddyhttp.Invoke:
			return true // not worth a closer look
		}
		return false
	})
}

// route visits the handlers in one route.
func (k *routeWalk) route(route *caddyhttp.Route, w way) {
	if matchers := hostMatchers(route.MatcherSets); matchers != nil {
		w.hosts = append(slices.Clip(w.hosts), matchers)
	}
	sum := k.sum(route.MatcherSets)
	w.steps = append(w.steps, step{sum: sum})
	w.through = append(slices.Clip(w.through), through{route, sum, func(mount string) bool { return matchesAll(route.MatcherSets, mount) }})
	for i, handler := range route.Handlers {
		on := w
		on.steps = slices.Clip(w.steps)
		on.behind = append(slices.Clip(w.behind), caddyhttp.RouteList{{Handlers: route.Handlers[i+1:]}})
		switch h := handler.(type) {
		case *Handler:
			if h.takesOver() {
				on.steps = append(on.steps, k.answering(on.behind)...)
			}
			k.visit(h, on)
		case *caddyhttp.Subroute:
			on.errorRoute = on.errorRoute || h.Errors != nil && len(h.Errors.Routes) > 0
			k.routes(h.Routes, on)
		case *caddyhttp.Invoke:
			if named := k.named[h.Name]; named != nil && k.invoked < maxInvoked {
				k.invoked++
				k.route(named, on)
				k.invoked--
			}
		}
		if len(deciding([]caddyhttp.MiddlewareHandler{handler})) > 0 {
			w.steps = append(w.steps, step{sum: k.sum(handler)})
		}
		w.rewrites += rewrites(handler)
		w.strip(handler)
	}
}

// deciding leaves out the handlers that let every request pass as it is, and change
// only the answer or the log: no stream has to come back for those.
func deciding(handlers []caddyhttp.MiddlewareHandler) []caddyhttp.MiddlewareHandler {
	return slices.DeleteFunc(slices.Clone(handlers), func(h caddyhttp.MiddlewareHandler) bool {
		if h, ok := h.(*headers.Handler); ok {
			return h.Request == nil
		}
		module, ok := h.(caddy.Module)
		return ok && slices.Contains([]caddy.ModuleID{
			"http.handlers.encode", "http.handlers.log_append", "http.handlers.templates", "http.handlers.tracing",
		}, module.CaddyModule().ID)
	})
}

// rewrites counts the handlers that change the path of a request, but not those in
// subroutes: a handle_path changes it for what is within.
func rewrites(handlers ...caddyhttp.MiddlewareHandler) (n int) {
	for _, h := range handlers {
		if _, ok := h.(*rewrite.Rewrite); ok {
			n++
		}
	}
	return n
}

// strip notes the prefix that handlers take off the path.
func (w *way) strip(handlers ...caddyhttp.MiddlewareHandler) {
	for _, h := range handlers {
		if r, ok := h.(*rewrite.Rewrite); ok && r.StripPathPrefix != "" {
			w.stripped = strings.TrimSuffix(r.StripPathPrefix, "/")
		}
	}
}

// sum is the Sum of what Caddy has loaded. The names of groups do not count: they are
// numbers of the Caddyfile's adapter, which change with any other site. Nor do the lines
// of handlers.
func (k *routeWalk) sum(values ...any) fingerprint.Sum {
	return fingerprint.Options{
		Ignore: func(in reflect.Type, field string) bool {
			return in == routeType && field == "Group" || in == handlerType && field == "Source"
		},
		Also: func(module any) any {
			if invoke, ok := module.(*caddyhttp.Invoke); ok {
				return k.named[invoke.Name]
			}
			return nil
		},
	}.Of(values...)
}

var (
	routeType   = reflect.TypeFor[caddyhttp.Route]()
	handlerType = reflect.TypeFor[Handler]()
)
