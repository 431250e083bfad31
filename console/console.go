// Package console is the operator's page of a hub: what it holds, who reads it, what comes
// in and why somebody may do something. It is served beneath the mount of an
// httpapi.Handler, at _console.
package console

import (
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
)

// Name is where the page lies, beneath the mount.
const Name = "_console"

// everywhere is the channel that a rule has to allow Console for.
const everywhere = "**"

// Config says what a console tells beside what its hub knows.
type Config struct {
	// Log describes the hub's log. It must be safe for concurrent use. Default: nothing is
	// told of it.
	Log func() Log
}

// Log describes where events are kept.
type Log struct {
	Adapter string `json:"adapter"`              // such as memory, bolt or redis
	Size    int64  `json:"size_bytes,omitempty"` // on this machine's disk
	Free    int64  `json:"free_bytes,omitempty"` // of that
}

// Console serves the page and the documents that it reads: JSON, only to callers whom a
// rule allows access.Console for "**". The page itself has no data, and is served to
// everybody: a token can only be entered there. It is safe for concurrent use.
type Console struct {
	api    *httpapi.Handler
	hub    *hub.Hub
	config Config
	page   *page
}

// New makes the console of a hub that api serves.
func New(api *httpapi.Handler, h *hub.Hub, c Config) (*Console, error) {
	p, err := assemble()
	if err != nil {
		return nil, err
	}
	return &Console{api: api, hub: h, config: c, page: p}, nil
}

// Serve answers a request for the console. For any other request it does nothing and
// returns false. The error is that of httpapi.Host.Fail, for the server to answer.
func (c *Console) Serve(w http.ResponseWriter, r *http.Request) (ours bool, err error) {
	name, ok := c.api.Beneath(r)
	if !ok {
		return false, nil
	}
	what, ok := strings.CutPrefix(name, Name)
	if !ok || what != "" && what[0] != '/' {
		return false, nil
	}
	document, ok := map[string]func(*http.Request) (any, error){
		"/stats":    c.stats,
		"/channels": c.channels,
		"/explain":  c.explain,
	}[what]
	switch {
	case what != "" && !ok:
		err = problem.NotFound.Because("%q is nothing of the console's, which has %s/stats, %s/channels and %s/explain", name, Name, Name, Name)
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", methods)
		w.WriteHeader(http.StatusNoContent)
		return true, nil
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		p := problem.BadMethod.Because("the console is read, with GET")
		p.Allow = methods
		err = p
	case what == "":
		c.page.serve(w, r)
		return true, nil
	}
	var doc any
	if err == nil {
		err = c.require(r)
	}
	if err == nil {
		doc, err = document(r)
	}
	if err != nil {
		return true, c.api.Refuse(w, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return true, c.api.Answer(w, doc)
}

const methods = "GET, HEAD, OPTIONS"

// require returns an error unless a rule lets the caller use the console.
func (c *Console) require(r *http.Request) error {
	who, err := c.api.Reader(r)
	if err != nil {
		return err
	}
	return c.api.Require(who, access.Console, everywhere)
}
