package httpapi

import (
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/sessions"
	"github.com/evstream/caddy-evstream/httpapi/internal/starts"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// serveSessions is the resource _sessions.
func (h *Handler) serveSessions(w http.ResponseWriter, r *http.Request, t resource, q query.Query, kind query.Request) error {
	identify := h.writer
	if kind == query.Sessions || kind == query.Session {
		identify = h.reader // which counts the read
	}
	who, err := identify(r)
	if err == nil && kind&(query.End|query.Join|query.Leave) != 0 {
		err = h.readRate(r, who)
	}
	if err != nil {
		return h.fail(w, err)
	}
	target, err := sessions.Parse(t.name)
	if err != nil {
		return h.fail(w, err)
	}
	publisher, counted := hub.Publisher(who, h.host.ClientIP(r)), 0
	request := sessions.Request{
		Hub: h.hub, Access: h.access, Who: who, Target: target, Query: q,
		Start: func() (broker.Start, error) { return starts.Of(r, q, time.Now()) },
		Event: func() (*sse.Event, error) {
			e, err := h.sessionEvent(r, who, publisher, q)
			if err == nil {
				counted = len(e.Data)
			}
			return e, err
		},
	}
	doc, err := request.Serve(r.Context(), kind)
	if err != nil && counted > 0 && problem.Of(err).Kind != problem.Uncertain {
		h.hub.NotPublished(publisher, counted)
	}
	switch {
	case err != nil:
		return h.fail(w, err)
	case doc == nil:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return h.answer(w, doc)
}

// sessionEvent reads an event to one session, and counts it and the bytes of its data
// against its publisher's rates.
func (h *Handler) sessionEvent(r *http.Request, who *access.Caller, publisher string, q query.Query) (*sse.Event, error) {
	if len(r.Header["Idempotency-Key"]) > 0 {
		return nil, problem.BadKey.Because("an event to one session is in no log, so that Idempotency-Key cannot tell whether it was sent before")
	}
	if err := h.hub.MayPublish(publisher, 0, 0); err != nil {
		return nil, err
	}
	op, err := opOf("", q)
	if err == nil {
		err = h.checkRetry(who, &op)
	}
	if err != nil {
		return nil, err
	}
	if op.Event.Data, err = bodies.Read(r, hub.MaxSessionEvent); err == nil {
		err = bodies.CheckForm(r, op.Event.Data)
	}
	if err == nil {
		err = h.hub.MayPublish(publisher, 1, len(op.Event.Data))
	}
	return &op.Event, err
}
