package httpapi

import (
	"net/http"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/members"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
)

// presenceDoc is who is in a channel.
type presenceDoc struct {
	members.Doc
	sharedDoc
}

// present answers with a page of who is in a channel.
func (h *Handler) present(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	who, err := h.reader(r)
	if err == nil {
		err = h.access.Require(who, access.Presence, name)
	}
	if err == nil {
		err = members.Check(name, h.hub.HasPresence(name))
	}
	if err != nil {
		return h.fail(w, err)
	}
	after, limit, err := pageOf(q)
	if err != nil {
		return h.fail(w, err)
	}
	page := h.hub.Present(name, after, limit)
	doc := presenceDoc{members.New(name, &page), h.share(r.Context(), nil)}
	doc.Partial = doc.Partial || page.Partial
	return h.answer(w, doc)
}

// setPresent sets the metadata of the caller as a member of a channel, or of the user of
// a session.
func (h *Handler) setPresent(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	name, err := members.Self(name)
	if err != nil {
		return h.fail(w, err)
	}
	who, err := h.writer(r)
	if err == nil {
		err = members.Check(name, h.hub.HasPresence(name))
	}
	if err == nil {
		err = h.readRate(r, who)
	}
	if err != nil {
		return h.fail(w, err)
	}
	session, _, err := q.One("session")
	if err != nil {
		return h.fail(w, err)
	}
	body, err := bodies.Read(r, 16*presence.MaxMeta)
	if err != nil {
		return h.fail(w, err)
	}
	meta, err := members.Meta(body)
	if err == nil {
		err = h.hub.SetPresent(r.Context(), who, session, name, meta)
	}
	if err != nil {
		return h.fail(w, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// watched are those of channels of which a stream with presence=1 is told who is there.
func (h *Handler) watched(who *access.Caller, channels []string) (watch []string, err error) {
	for _, name := range channels {
		if !h.hub.HasPresence(name) {
			continue
		}
		if err := h.access.Require(who, access.Presence, name); err != nil {
			return nil, err
		}
		watch = append(watch, name)
	}
	if watch == nil {
		return nil, problem.BadParameter.Because("presence=1: none of the channels has presence, which the option presence of a channel gives; those that a pattern selects do not count")
	}
	return watch, nil
}
