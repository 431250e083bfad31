package evstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/internal/fingerprint"
)

// shadows reports whether a handler that is reached by w, which comes first, answers
// all requests beneath mount that could take the way other.
func (w way) shadows(other way, mount string) bool {
	if w.rewrites != other.rewrites {
		return false // a path may be beneath the mount only then
	}
	ours, theirs := w.through, other.through
	for len(ours) > 0 && len(theirs) > 0 && ours[0].route == theirs[0].route {
		ours, theirs = ours[1:], theirs[1:]
	}
	return !slices.ContainsFunc(ours, func(t through) bool {
		return !t.all(mount) &&
			!slices.ContainsFunc(theirs, func(o through) bool { return o.sum == t.sum })
	})
}

// matchesAll reports whether matchers match every path beneath mount.
func matchesAll(sets caddyhttp.MatcherSets, mount string) bool {
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool {
			path, ok := m.(*caddyhttp.MatchPath)
			return !ok || !pathsMatchAll(*path, mount)
		})
	})
}

// pathsMatchAll is matchesAll of a path matcher.
func pathsMatchAll(paths caddyhttp.MatchPath, mount string) bool {
	mount = strings.ToLower(mount)
	return slices.ContainsFunc(paths, func(p string) bool {
		p = strings.ToLower(p)
		return p == "*" || p == "/*" || p == mount+"*" || p == mount+"/*"
	})
}

// mountCheck finds handlers of one server that could never act.
type mountCheck struct {
	server *caddyhttp.Server
	before []visitedHandler
	err    error
}

// visitedHandler is a handler, and a way to it.
type visitedHandler struct {
	h *Handler
	w way
}

// visit is called for each way to a handler, in the order of the routes.
func (c *mountCheck) visit(h *Handler, w way) {
	if h.takesOver() {
		return // it passes requests on
	}
	i := slices.IndexFunc(c.before, func(v visitedHandler) bool {
		return v.h != h && strings.EqualFold(v.h.Mount, h.Mount) && v.w.shadows(w, h.Mount)
	})
	if i >= 0 && c.err == nil {
		c.err = fmt.Errorf("two evstream handlers have the mount %s/ on %s: the second one (%s) would never act, because the first one (%s) answers all requests there; write one block, or give them other mounts or matchers",
			h.Mount, strings.Join(c.server.Listen, ", "), h.described(w), c.before[i].h.described(c.before[i].w))
	}
	c.before = append(c.before, visitedHandler{h, w})
}

// checkMounts returns an error if one of a server's handlers could never act, because
// another with its mount comes first.
func checkMounts(server *caddyhttp.Server) error {
	c := mountCheck{server: server}
	walk := routeWalk{named: server.NamedRoutes, visit: c.visit}
	walk.routes(server.Routes, way{})
	return c.err
}

// described tells a handler from another in an error: by where a Caddyfile declares it,
// its site and its rules.
func (h *Handler) described(w way) string {
	var s strings.Builder
	if h.Source != nil && h.Source.At != "" {
		s.WriteString("at " + h.Source.At + ", ")
	}
	for _, alternatives := range w.hosts {
		for _, m := range alternatives {
			s.WriteString(strings.Join(*m, ", ") + ", ")
		}
	}
	if len(h.Allow) == 0 {
		return s.String()
	}
	r := h.Allow[0].rule()
	return s.String() + "with \"" + r.String() + "\""
}

// checkRawMounts is checkMounts for a server whose first handler is being provisioned,
// so that "caddy validate", which starts nothing, reports the error too. Of the routes
// from there on, only the configuration is known, and the matchers of the outermost.
// What is not known to be an error here is left to checkMounts.
func checkRawMounts(server *caddyhttp.Server) error {
	c := mountCheck{server: server}
	walk := rawWalk{named: server.NamedRoutes, visit: c.visit, handlers: make(map[*byte]*Handler)}
	w := way{}
	for i := range server.Routes {
		route := &server.Routes[i]
		on := w
		if matchers := hostMatchers(route.MatcherSets); matchers != nil {
			on.hosts = [][]*caddyhttp.MatchHost{matchers}
		}
		sum := (&routeWalk{}).sum(route.MatcherSets)
		on.through = []through{{route, sum, func(mount string) bool { return matchesAll(route.MatcherSets, mount) }}}
		w.rewrites += walk.handle(route.HandlersRaw, on)
	}
	return c.err
}

// rawRoute is the configuration of a route.
type rawRoute struct {
	Match  []caddy.ModuleMap `json:"match"`
	Handle []json.RawMessage `json:"handle"`
}

// rawWalk is a routeWalk over routes that are not loaded.
type rawWalk struct {
	named    map[string]*caddyhttp.Route
	visit    func(*Handler, way)
	handlers map[*byte]*Handler // by where their configuration begins
	invoked  int
}

// handle visits what is in a route to which w leads, and returns how many of its
// handlers change the path of a request.
func (k *rawWalk) handle(list []json.RawMessage, w way) (changes int) {
	for _, raw := range list {
		var module struct {
			Handler string     `json:"handler"`
			Routes  []rawRoute `json:"routes"`
			Name    string     `json:"name"`
		}
		if json.Unmarshal(raw, &module) != nil {
			continue // an error when it is loaded
		}
		switch module.Handler {
		case "rewrite":
			w.rewrites++
			changes++
		case "subroute":
			on := w
			for i := range module.Routes {
				r := &module.Routes[i]
				on.rewrites += k.route(r, r.Match, r.Handle, on)
			}
		case "invoke":
			if named := k.named[module.Name]; named != nil && k.invoked < maxInvoked {
				k.invoked++
				k.route(named, named.MatcherSetsRaw, named.HandlersRaw, w)
				k.invoked--
			}
		case "evstream":
			if h := k.handler(raw); h != nil {
				k.visit(h, w)
			}
		}
	}
	return changes
}

// route visits what is in one route: id identifies it.
func (k *rawWalk) route(id any, match []caddy.ModuleMap, handle []json.RawMessage, w way) (changes int) {
	if hosts := rawHosts(match); hosts != nil {
		w.hosts = append(slices.Clip(w.hosts), hosts)
	}
	lower := make([]caddy.ModuleMap, len(match)) // as paths are matched
	for i, set := range match {
		if lower[i] = maps.Clone(set); set["path"] != nil {
			lower[i]["path"] = bytes.ToLower(set["path"])
		}
	}
	w.through = append(slices.Clip(w.through), through{id, fingerprint.Options{}.Of(lower), func(mount string) bool {
		return len(match) == 0 || slices.ContainsFunc(match, func(set caddy.ModuleMap) bool {
			var paths caddyhttp.MatchPath
			return len(set) == 0 || len(set) == 1 && json.Unmarshal(set["path"], &paths) == nil && pathsMatchAll(paths, mount)
		})
	}})
	return k.handle(handle, w)
}

// rawHosts is hostMatchers of a configuration.
func rawHosts(match []caddy.ModuleMap) (matchers []*caddyhttp.MatchHost) {
	for _, set := range match {
		hosts := new(caddyhttp.MatchHost)
		if json.Unmarshal(set["host"], hosts) != nil {
			return nil
		}
		matchers = append(matchers, hosts)
	}
	return matchers
}

// handler reads the handler that raw configures; nil if it cannot be read.
func (k *rawWalk) handler(raw json.RawMessage) *Handler {
	if h := k.handlers[&raw[0]]; h != nil {
		return h
	}
	h := new(Handler)
	if json.Unmarshal(raw, h) != nil {
		return nil
	}
	k.handlers[&raw[0]] = h
	return h
}
