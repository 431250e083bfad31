package evstream

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// serve answers a request beneath the endpoint's mount and hands any other to
// next, which may be nil.
func (e *endpoint) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	t, ours, err := parseTarget(e.mount, r.URL)
	if !ours && next != nil {
		return next.ServeHTTP(w, r)
	}
	allowed := e.cors.headers(w.Header(), r)
	switch {
	case !ours:
		return e.fail(w, notFound.because("the path lies outside of %s", e.mount+"/"))
	case r.Method == http.MethodOptions:
		// Before anything else: a preflight carries no credentials.
		return e.options(w, r, t, err, allowed)
	case err != nil:
		return e.fail(w, err)
	}
	return e.dispatch(w, r, t)
}

// dispatch finds the verb.
func (e *endpoint) dispatch(w http.ResponseWriter, r *http.Request, t target) error {
	q := query(r.URL.RawQuery)
	switch t.kind {
	case targetMount:
		if r.Method == http.MethodGet {
			return e.get(w, r, t, q)
		}
	case targetChannel:
		switch {
		case r.Method == http.MethodGet, r.Method == http.MethodHead && q.has("info"):
			return e.get(w, r, t, q)
		case r.Method == http.MethodPost:
			return e.publish(w, r, t.name, q)
		case r.Method == http.MethodDelete && q.has("history"):
			return e.purge(w, r, t.name)
		case r.Method == http.MethodHead:
			return e.getState(w, r, t.name)
		case r.Method == http.MethodPut:
			return e.putState(w, r, t.name, q)
		case r.Method == http.MethodPatch:
			return e.patchState(w, r, t.name, q)
		case r.Method == http.MethodDelete:
			return e.deleteState(w, r, t.name, q)
		}
	case targetBeneath:
		if r.Method == http.MethodPost {
			return e.publish(w, r, t.name, q)
		}
	case targetPublish:
		if r.Method == http.MethodPost {
			return e.publishBatch(w, r)
		}
	case targetChannels:
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return e.listChannels(w, r, q)
		}
	case targetTickets:
		if r.Method == http.MethodPost {
			return e.ticket(w, r)
		}
	case targetRevocations:
		switch {
		case !e.access.all:
			return e.fail(w, notFound.because("revocations are made at Caddy's admin endpoint"))
		case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Method == http.MethodPost, r.Method == http.MethodDelete:
			return e.serveRevocations(w, r, q)
		}
	}
	return e.fail(w, refuseMethod(r.Method, t))
}

// get answers with a stream, a poll or a document.
func (e *endpoint) get(w http.ResponseWriter, r *http.Request, t target, q query) error {
	poll, err := q.flag("poll", false)
	if err != nil {
		return e.fail(w, err)
	}
	asked := negotiate(r.Header.Values("Accept"))
	switch info := q.has("info"); {
	case poll || info:
		switch {
		case !asked.json:
			return e.fail(w, notAcceptable.because("with ?info and ?poll=1 the answer is application/json"))
		case info:
			return e.info(w, r, t)
		}
		return e.poll(w, r, t, q)
	case asked.stream:
		return e.subscribe(w, r, t, q)
	case asked.json && t.kind == targetChannel:
		return e.getState(w, r, t.name)
	}
	return e.fail(w, notAcceptable.because("the answer is text/event-stream, or application/json: a channel's value, or with ?poll=1 its events, or with ?info its document"))
}

// allow lists the methods of a target.
func allow(t target) string {
	switch t.kind {
	case targetChannel:
		return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	case targetBeneath, targetPublish, targetTickets:
		return "POST, OPTIONS"
	case targetRevocations:
		return "GET, HEAD, POST, DELETE, OPTIONS"
	case targetChannels:
		return "GET, HEAD, OPTIONS"
	}
	return "GET, OPTIONS"
}

// refuseMethod says what a target is for.
func refuseMethod(method string, t target) *problem {
	var p *problem
	switch t.kind {
	case targetMount:
		p = badMethod.because("without a channel there is only reading, with ?channel=; publish to a channel, or to _publish")
	case targetBeneath:
		p = badMethod.because("a name that ends in / is published to, with POST; to read what lies beneath, subscribe to %q", t.name+"**")
	case targetPublish:
		p = badMethod.because("_publish takes events, with POST")
	case targetChannels:
		p = badMethod.because("_channels lists channels, with GET")
	case targetTickets:
		p = badMethod.because("_tickets gives a ticket, with POST")
	case targetRevocations:
		p = badMethod.because("_revocations revokes with POST, lifts with DELETE and lists with GET")
	default:
		p = badMethod.because("%s is not served: GET subscribes, POST publishes, PUT, PATCH and DELETE are for the channel's value", clip(method))
	}
	p.allow = allow(t)
	return p
}

// options answers OPTIONS: a preflight, or a plain question.
func (e *endpoint) options(w http.ResponseWriter, r *http.Request, t target, err error, allowed bool) error {
	if allowed && r.Header.Get("Access-Control-Request-Method") != "" {
		e.cors.preflight(w.Header())
	} else if err != nil {
		return e.fail(w, err)
	}
	w.Header().Set("Allow", allow(t))
	if t.kind == targetChannel {
		w.Header().Set("Accept-Patch", acceptPatch)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// acceptable is what a client takes: at most one of stream and json is
// preferred, where */* prefers a stream and takes both.
type acceptable struct{ stream, json bool }

// negotiate reads Accept. Without it, anything goes.
func negotiate(accept []string) acceptable {
	if len(accept) == 0 {
		return acceptable{stream: true, json: true}
	}
	stream := weigh(accept, "text/event-stream")
	json := weigh(accept, "application/json")
	return acceptable{
		stream: stream.q > 0 && !json.preferredTo(stream),
		json:   json.q > 0,
	}
}

// weight is how much a client wants a media type: by quality, then by how
// exactly it was asked for.
type weight struct{ q, exact int }

func (a weight) preferredTo(b weight) bool {
	return a.q > b.q || a.q == b.q && a.exact > b.exact
}

// weigh finds the most exact range that takes in a media type.
func weigh(accept []string, media string) weight {
	kind, _, _ := strings.Cut(media, "/")
	var found weight
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(element, ";")
			exact := 0
			switch name = strings.ToLower(strings.TrimSpace(name)); name {
			case media:
				exact = 3
			case kind + "/*":
				exact = 2
			case "*/*":
				exact = 1
			}
			if exact > found.exact {
				found = weight{q: quality(params), exact: exact}
			}
		}
	}
	return found
}

// quality reads q=, in thousandths. What is no quality is taken for 1.
func quality(params string) int {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		whole, fraction, _ := strings.Cut(value, ".")
		if whole != "0" {
			return 1000
		}
		q := 0
		for i := range 3 {
			q *= 10
			if i < len(fraction) && fraction[i] >= '0' && fraction[i] <= '9' {
				q += int(fraction[i] - '0')
			}
		}
		return q
	}
	return 1000
}
