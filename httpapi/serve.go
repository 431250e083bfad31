package httpapi

import (
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/files"
	"github.com/evstream/caddy-evstream/httpapi/internal/preconditions"
	"github.com/evstream/caddy-evstream/httpapi/internal/sessions"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Serve answers a request beneath the handler's mount. For any other request it does
// nothing and returns false. The error is that of Host.Fail, for the server to answer.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request) (ours bool, err error) {
	t, ours, err := parseResource(h.mount, r.URL)
	if !ours {
		return false, nil
	}
	allowed := h.cors.Headers(w.Header(), r)
	switch {
	case r.Method == http.MethodOptions:
		// Before any check: a preflight has no credentials.
		err = h.options(w, r, t, err, allowed)
	case err != nil:
		w, _ = bodies.Arrive(w, r)
		err = h.fail(w, err)
	case t.kind == resourceBare:
		w, _ = bodies.Arrive(w, r)
		redirectToMount(w, r)
	case t.kind == resourceFile && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		files.Serve(w, r, h.mount, t.name)
	default:
		err = h.dispatch(w, r, t)
	}
	return true, err
}

// redirectToMount answers {b} with 308 to {b}/. Nothing else is served at {b}: a guard in
// front for "/live/*" sees "/live/", but not "/live". The Location is relative, because a
// handler in front may have cut off the beginning of the path. The answer does not wait
// for a body.
func redirectToMount(w http.ResponseWriter, r *http.Request) {
	escaped := r.URL.EscapedPath()
	to := escaped[strings.LastIndexByte(escaped, '/')+1:] + "/"
	if strings.Contains(to, ":") {
		to = "./" + to // so that it is not taken for a scheme
	}
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.Header().Set("Cache-Control", "no-store")
	if a, ok := w.(*bodies.Arrival); ok {
		a.Refuse()
		defer a.Drain()
	}
	w.WriteHeader(http.StatusPermanentRedirect)
}

// dispatch serves a request by what it does. One with a parameter or a condition that has
// no meaning there is refused, but for a stream: an error would end an EventSource for
// good.
func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, t resource) error {
	q := query.Query(r.URL.RawQuery)
	kind, err := h.kindOf(r, t, q)
	if err == nil && kind != query.Stream && q != "" {
		err = h.accepts.Check(kind, q)
	}
	if err == nil {
		err = preconditions.Check(r, kind&(query.Put|query.Patch|query.Remove) != 0)
	}
	if err != nil {
		w, _ = bodies.Arrive(w, r)
		return h.fail(w, err)
	}
	if kind != query.Stream && kind != query.Poll { // which read what should not be there
		w, r = bodies.Arrive(w, r)
	}
	switch kind {
	case query.Stream:
		if r.Method == http.MethodHead {
			return h.headOfStream(w, r, t, q)
		}
		return h.subscribe(w, r, t, q)
	case query.Poll:
		return h.poll(w, r, t, q)
	case query.Info:
		return h.info(w, r, t)
	case query.Value:
		return h.getState(w, r, t.name)
	case query.List:
		return h.listChannels(w, r, q)
	case query.Publish:
		return h.publish(w, r, t.name, q)
	case query.Batch:
		return h.publishBatch(w, r)
	case query.Purge:
		return h.purge(w, r, t.name)
	case query.Stop:
		return h.StopRun(w, r, t.name)
	case query.Put:
		return h.putState(w, r, t.name, q)
	case query.Patch:
		return h.patchState(w, r, t.name, q)
	case query.Remove:
		return h.deleteState(w, r, t.name, q)
	case query.Ticket:
		return h.ticket(w, r)
	case query.Session, query.Sessions, query.End, query.Send, query.Join, query.Leave:
		return h.serveSessions(w, r, t, q, kind)
	case query.Present:
		return h.present(w, r, t.name, q)
	case query.SetPresent:
		return h.setPresent(w, r, t.name, q)
	}
	return h.serveRevocations(w, r, q)
}

// headOfStream answers HEAD where GET begins a stream: with its header, if the caller may
// read it.
func (h *Handler) headOfStream(w http.ResponseWriter, r *http.Request, t resource, q query.Query) error {
	if err := h.hub.MayConnect(h.host.ClientIP(r)); err != nil {
		return h.fail(w, err)
	}
	if _, err := h.reading(r, t, q, noStream); err != nil {
		return h.fail(w, err)
	}
	stream.SetHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	return nil
}

// allow lists the methods of a resource.
func allow(t resource) string {
	switch t.kind {
	case resourceChannel:
		return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	case resourceBeneath, resourcePublish, resourceTickets:
		return "POST, OPTIONS"
	case resourceRevocations:
		return "GET, HEAD, POST, DELETE, OPTIONS"
	case resourceSessions:
		target, _ := sessions.Parse(t.name)
		return target.Methods()
	case resourcePresence:
		return "GET, HEAD, PUT, OPTIONS"
	}
	return "GET, HEAD, OPTIONS"
}

// refuseMethod is the problem of a method that a resource does not have.
func refuseMethod(method string, t resource) *problem.Error {
	var p *problem.Error
	switch t.kind {
	case resourceSessions:
		target, _ := sessions.Parse(t.name)
		return target.RefuseMethod()
	case resourceMount:
		p = problem.BadMethod.Because("without a channel there is only reading, with ?channel=; publish to a channel, or to _publish")
	case resourceBeneath:
		p = problem.BadMethod.Because("a name that ends in / is published to, with POST; to read what lies beneath, subscribe to %q", t.name+"**")
	case resourcePublish:
		p = problem.BadMethod.Because("_publish takes events, with POST")
	case resourceChannels:
		p = problem.BadMethod.Because("_channels lists channels, with GET")
	case resourcePresence:
		p = problem.BadMethod.Because("_presence/{channel} says who is there, with GET; PUT is for the caller's own metadata, at _presence/{channel}/me")
	case resourceFile:
		p = problem.BadMethod.Because("%s is a file: it is read, with GET", t.name)
	case resourceTickets:
		p = problem.BadMethod.Because("_tickets gives a ticket, with POST")
	case resourceRevocations:
		p = problem.BadMethod.Because("_revocations revokes with POST, lifts with DELETE and lists with GET")
	default:
		p = problem.BadMethod.Because("%s is not served: GET subscribes, POST publishes, PUT, PATCH and DELETE are for the channel's value", problem.Clip(method))
	}
	p.Allow = allow(t)
	return p
}

// options answers OPTIONS, which may be a preflight. err is that of parseResource.
func (h *Handler) options(w http.ResponseWriter, r *http.Request, t resource, err error, allowed bool) error {
	if allowed && r.Header.Get("Access-Control-Request-Method") != "" {
		h.cors.Preflight(w.Header())
	} else if err != nil {
		return h.fail(w, err)
	} else if t.kind == resourceBare {
		w, _ = bodies.Arrive(w, r)
		redirectToMount(w, r) // a preflight must not be redirected
		return nil
	}
	w.Header().Set("Allow", allow(t))
	if t.kind == resourceChannel {
		w.Header().Set("Accept-Patch", acceptPatch)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
