// Package sessions is the resource _sessions: what can be done with a stream while it
// lasts, on whichever node it is.
package sessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// Root is the name of the resource beneath the mount.
const Root = "_sessions"

// Target is what a path names beneath Root. The zero Target is all sessions.
type Target struct {
	ID      string // of a session
	Channel string // of that session, or ""
}

// Is reports whether the name of a path is that of the resource or lies beneath it.
func Is(name string) bool { return name == Root || strings.HasPrefix(name, Root+"/") }

// Parse reads the name of a path: _sessions, _sessions/{id}, or
// _sessions/{id}/channels/{channel}.
func Parse(name string) (t Target, err error) {
	rest, beneath := strings.CutPrefix(name, Root+"/")
	if !beneath {
		return t, nil
	}
	id, rest, more := strings.Cut(rest, "/")
	if len(id) > maxID || !stream.MayBeID(id) {
		return t, problem.NoSession.Because("%q cannot be the id of a session, as evstream.open has it", problem.Clip(id))
	}
	t.ID = id
	if !more {
		return t, nil
	}
	name, ok := strings.CutPrefix(rest, "channels/")
	if !ok || name == "" {
		return t, problem.NotFound.Because("a session has channels/{channel}, and nothing else")
	}
	t.Channel = name
	return t, nil
}

// Methods lists those of a target.
func (t Target) Methods() string {
	switch {
	case t.Channel != "":
		return "PUT, DELETE, OPTIONS"
	case t.ID != "":
		return "GET, HEAD, POST, DELETE, OPTIONS"
	}
	return "GET, HEAD, OPTIONS"
}

// Kind says what a request with that method does; false if the target does not have it.
func (t Target) Kind(method string) (query.Request, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	kind, ok := map[string]query.Request{
		"GET ": query.Sessions, "GET id": query.Session, "DELETE id": query.End, "POST id": query.Send,
		"PUT channel": query.Join, "DELETE channel": query.Leave,
	}[method+" "+t.what()]
	return kind, ok
}

func (t Target) what() string {
	switch {
	case t.Channel != "":
		return "channel"
	case t.ID != "":
		return "id"
	}
	return ""
}

// RefuseMethod is the problem of a method that a target does not have.
func (t Target) RefuseMethod() *problem.Error {
	var p *problem.Error
	switch t.what() {
	case "channel":
		p = problem.BadMethod.Because("a session joins a channel with PUT and leaves it with DELETE")
	case "id":
		p = problem.BadMethod.Because("a session is described with GET, ended with DELETE and sent an event with POST")
	default:
		p = problem.BadMethod.Because("_sessions lists sessions, with GET")
	}
	p.Allow = t.Methods()
	return p
}

// Bounds of what a request names.
const (
	maxID    = 255
	maxLimit = 1000
)

// Request is a request to the resource by a caller who has been identified.
type Request struct {
	Hub    *hub.Hub
	Access *access.Policy
	Who    *access.Caller
	Target Target
	Query  query.Query
	// Start reads where a join begins, Event what is sent, which it may refuse.
	Start func() (broker.Start, error)
	Event func() (*sse.Event, error)
}

// channelsDoc is the answer to a join and a leave.
type channelsDoc struct {
	Session  string   `json:"session"`
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"` // all that the session reads now
}

// Serve does what a request asks for. It returns the document of the answer, or nil for
// none.
func (r *Request) Serve(ctx context.Context, kind query.Request) (doc any, err error) {
	by := hub.Asker{Caller: r.Who, Within: r.Access.Patterns(r.Who, access.UseSessions)}
	id, name := r.Target.ID, r.Target.Channel
	switch kind {
	case query.Sessions:
		doc, err = r.list(ctx, by)
	case query.Session:
		doc, err = r.Hub.DescribeSession(ctx, id, by)
	case query.End:
		var reason string
		if reason, err = r.reason(); err == nil {
			err = r.Hub.EndSession(ctx, id, reason, by)
		}
	case query.Send:
		var e *sse.Event
		if e, err = r.Event(); err == nil {
			err = r.Hub.SendTo(ctx, id, e, by)
		}
	case query.Join:
		var start broker.Start
		if start, err = r.Start(); err != nil {
			break
		}
		var reads []string
		reads, err = r.Hub.JoinSession(ctx, id, name, start, by)
		doc = channelsDoc{id, name, reads}
	case query.Leave:
		reads, was, left := r.Hub.LeaveSession(ctx, id, name, by)
		if err = left; err == nil && !was {
			err = problem.NotFound.Because("the session does not read %q", problem.Clip(name))
		}
		doc = channelsDoc{id, name, append([]string{}, reads...)} // not null where none is left
	}
	if err != nil {
		return nil, r.refused(err)
	}
	return doc, nil
}

// refused is the problem of who may not do that.
func (r *Request) refused(err error) error {
	var refused *hub.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	what := fmt.Sprintf("session %q", r.Target.ID)
	if r.Target.Channel != "" {
		what = fmt.Sprintf("channel %q", problem.Clip(r.Target.Channel))
	}
	return r.Access.Refuse(r.Who, refused.Verb, what)
}

func (r *Request) list(ctx context.Context, by hub.Asker) (*hub.SessionPage, error) {
	if len(by.Within) == 0 {
		return nil, r.Access.Refuse(r.Who, access.UseSessions, "any session")
	}
	var f hub.SessionFilter
	for name, to := range map[string]*string{"user": &f.User, "channel": &f.Channel, "after": &f.After} {
		var err error
		if *to, _, err = r.Query.One(name); err != nil {
			return nil, err
		}
		if len(*to) > hub.MaxRevokedName {
			return nil, problem.BadParameter.Because("%s has at most %d bytes", name, hub.MaxRevokedName)
		}
	}
	limit, given, err := r.Query.One("limit")
	if err != nil {
		return nil, err
	}
	if given {
		if f.Limit, err = strconv.Atoi(limit); err != nil || f.Limit < 1 || f.Limit > maxLimit {
			return nil, problem.BadParameter.Because("limit is how many sessions to list, from 1 to %d, not %q", maxLimit, problem.Clip(limit))
		}
	}
	return r.Hub.ListSessions(ctx, f, by)
}

// reason is what the client is told of an end.
func (r *Request) reason() (string, error) {
	reason, _, err := r.Query.One("reason")
	if err == nil && (len(reason) > hub.MaxEndReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl)) {
		err = problem.BadParameter.Because("reason is text without control characters, of at most %d bytes", hub.MaxEndReason)
	}
	return reason, err
}
