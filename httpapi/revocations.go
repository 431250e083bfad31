package httpapi

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/jsonbody"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/duration"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// revocationsDoc is a page of what is revoked.
type revocationsDoc struct {
	Revocations []hub.Revocation `json:"revocations"`
	Next        string           `json:"next,omitempty"`
}

// serveRevocations is the resource _revocations of the admin endpoint.
func (h *Handler) serveRevocations(w http.ResponseWriter, r *http.Request, q query.Query) error {
	now := time.Now()
	switch r.Method {
	case http.MethodPost:
		body, err := bodies.Read(r, 64<<10)
		if err != nil {
			return h.fail(w, err)
		}
		rv, err := readRevocation(body, now)
		if err != nil {
			return h.fail(w, err)
		}
		ended, err := h.hub.Revoke(r.Context(), &rv, now)
		if err != nil {
			return h.fail(w, err)
		}
		h.logger.Info("revoked", slog.String("what", rv.Name()), slog.String("broker", h.hub.Name()), slog.Int("streams", ended))
		return h.answer(w, hub.Revoked{Revocation: rv, Streams: ended})
	case http.MethodDelete:
		user, _, err := q.One("user")
		if err != nil {
			return h.fail(w, err)
		}
		token, _, err := q.One("token")
		if err != nil {
			return h.fail(w, err)
		}
		if (user == "") == (token == "") {
			return h.fail(w, problem.BadParameter.Because("name what to lift: either user or token"))
		}
		had, err := h.hub.Lift(r.Context(), &hub.Revocation{User: user, Token: token}, now)
		if err != nil {
			return h.fail(w, err)
		}
		if !had {
			return h.fail(w, problem.NotFound.Because("nothing of that name is revoked"))
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return h.listRevocations(w, q, now)
}

func (h *Handler) listRevocations(w http.ResponseWriter, q query.Query, now time.Time) error {
	after, limit, err := pageOf(q)
	if err != nil {
		return h.fail(w, err)
	}
	doc := revocationsDoc{Revocations: []hub.Revocation{}}
	for _, rv := range h.hub.Revocations(now) {
		switch {
		case rv.Name() <= after:
		case len(doc.Revocations) == limit:
			doc.Next = doc.Revocations[limit-1].Name()
			return h.answer(w, doc)
		default:
			doc.Revocations = append(doc.Revocations, rv)
		}
	}
	return h.answer(w, doc)
}

// readRevocation reads {"user"|"token"|"session", "for"}.
func readRevocation(body []byte, now time.Time) (hub.Revocation, error) {
	members, err := jsonbody.DecodeObject[string](body)
	if err != nil {
		return hub.Revocation{}, problem.BadBody.Because("what to revoke is an object of strings: one of user, token and session, and how long (for)")
	}
	r := hub.Revocation{User: members["user"], Token: members["token"], Session: members["session"], At: now.UTC()}
	named := 0
	for name, value := range members {
		switch name {
		case "user", "token", "session":
			if named++; value == "" || len(value) > hub.MaxRevokedName {
				return r, problem.BadBody.Because("%s has 1 to %d bytes, not %d", name, hub.MaxRevokedName, len(value))
			}
		case "for":
			d, err := duration.Parse(value)
			if err != nil || d <= 0 {
				return r, problem.BadBody.Because("for is a duration such as 24h, not %q", problem.Clip(value))
			}
			r.Until = r.At.Add(d)
		default:
			return r, problem.BadBody.Because("there is no member %q, only user, token, session and for", problem.Clip(name))
		}
	}
	if named != 1 {
		return r, problem.BadBody.Because("name one of user, token and session, not %d", named)
	}
	return r, nil
}
