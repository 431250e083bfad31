package httpapi

import (
	"net/http"

	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/httpapi/internal/sessions"
	"github.com/evstream/caddy-evstream/internal/accept"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// Parameters returns the query parameters that have a meaning of their own, sorted.
func Parameters() []string { return query.Names() }

// CheckIgnoreQuery returns an error about the first name that Config.IgnoreQuery cannot
// have.
func CheckIgnoreQuery(names []string) error {
	if err := query.CheckIgnore(names); err != nil {
		return problem.BadParameter.Because("ignore_query: %w", err)
	}
	return nil
}

// acceptsOf is which parameters a handler accepts.
func acceptsOf(c *Config) query.Accepts {
	a := query.Accepts{Ignore: c.IgnoreQuery}
	if c.Access.AllowsAll() {
		a.Also = append(a.Also, "broker") // of the admin endpoint
	}
	if c.Auth != nil {
		a.Also = append(a.Also, parametersOf(c.Auth)...)
	}
	return a
}

// parametersOf are the parameters with a credential, which package auth reads.
func parametersOf(a *auth.Authenticator) (names []string) {
	if name := a.QueryParameter(); name != "" {
		names = append(names, name)
	}
	if a.GivesTickets() {
		names = append(names, "ticket")
	}
	return names
}

// kindOf says what a request does. Its error is that of a request that is not served.
func (h *Handler) kindOf(r *http.Request, t resource, q query.Query) (query.Request, error) {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch t.kind {
	case resourceMount:
		if read {
			return h.readKindOf(r, t, q)
		}
	case resourceChannel:
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			return h.readKindOf(r, t, q)
		case http.MethodPost:
			return query.Publish, nil
		case http.MethodPut:
			return query.Put, nil
		case http.MethodPatch:
			return query.Patch, nil
		case http.MethodDelete:
			switch stop, err := q.Flag("stop", false); {
			case err != nil:
				return query.Remove, err
			case stop:
				return query.Stop, nil
			case q.Has("stop"):
				return 0, problem.BadParameter.Because("stop stops the answer that is recorded on the channel; without it the channel's value is removed")
			}
			switch history, err := q.Flag("history", false); {
			case err != nil || !q.Has("history"):
				return query.Remove, err
			case !history:
				return 0, problem.BadParameter.Because("history purges what the channel keeps; without it the channel's value is removed")
			}
			return query.Purge, nil
		}
	case resourceBeneath:
		if r.Method == http.MethodPost {
			return query.Publish, nil
		}
	case resourcePublish:
		if r.Method == http.MethodPost {
			return query.Batch, nil
		}
	case resourceChannels:
		if read {
			return query.List, nil
		}
	case resourcePresence:
		if read {
			return query.Present, nil
		} else if r.Method == http.MethodPut {
			return query.SetPresent, nil
		}
	case resourceTickets:
		if r.Method == http.MethodPost {
			return query.Ticket, nil
		}
	case resourceSessions:
		target, err := sessions.Parse(t.name)
		if err != nil {
			return 0, err
		}
		if kind, ok := target.Kind(r.Method); ok {
			return kind, nil
		}
	case resourceRevocations:
		switch {
		case !h.access.AllowsAll():
			return 0, problem.NotFound.Because("revocations are made at Caddy's admin endpoint")
		case read:
			return query.Revoked, nil
		case r.Method == http.MethodPost:
			return query.Revoke, nil
		case r.Method == http.MethodDelete:
			return query.Lift, nil
		}
	}
	return 0, refuseMethod(r.Method, t)
}

// readKindOf says what is read of a channel, or of those of the query.
func (h *Handler) readKindOf(r *http.Request, t resource, q query.Query) (query.Request, error) {
	poll, err := q.Flag("poll", false)
	if err != nil {
		return 0, err
	}
	asked := accept.Parse(r.Header.Values("Accept"))
	switch info := q.Has("info"); {
	case (poll || info) && !asked.JSON:
		return 0, problem.NotAcceptable.Because("with ?info and ?poll=1 the answer is application/json")
	case info:
		return query.Info, nil
	case poll:
		return query.Poll, nil
	case asked.Stream:
		return query.Stream, nil
	case asked.JSON && t.kind == resourceChannel:
		return query.Value, nil
	}
	return 0, problem.NotAcceptable.Because("the answer is text/event-stream, or application/json: a channel's value, or with ?poll=1 its events, or with ?info its document")
}
