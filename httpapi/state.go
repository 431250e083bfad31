package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/httpapi/internal/preconditions"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// getState answers with the value of a channel. Who may subscribe may read it.
func (h *Handler) getState(w http.ResponseWriter, r *http.Request, name string) error {
	w.Header().Add("Vary", "Accept") // the same URL is a stream
	who, err := h.reader(r)
	if err == nil {
		err = h.access.Require(who, access.Subscribe, name)
	}
	if err == nil {
		err = channel.Check(name)
	}
	if err == nil {
		err = h.current(w, r)
	}
	if err != nil {
		return h.fail(w, err)
	}
	state := h.hub.Broker().State(name)
	condition, err := preconditions.Of(r)
	if err != nil {
		return h.fail(w, err)
	}
	if state.Value == nil {
		if condition.Kind == broker.IfVersion || condition.Kind == broker.IfPresent {
			return h.fail(w, mismatched(w, &state))
		}
		return h.fail(w, problem.NoState.Because("channel %q has no value; PUT sets one, ?poll=1 answers with events, ?info with the channel's document", name))
	}
	header := w.Header()
	header.Set("ETag", etag(state.Version))
	header.Set("Cache-Control", "private, no-cache, no-transform")
	if !condition.Holds(&state) {
		if r.Header["If-Match"] != nil {
			return h.fail(w, mismatched(w, &state))
		}
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(state.Value)+1))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(slices.Clip(state.Value), '\n'))
	}
	return nil
}

// stateWriter returns who writes the value of a channel, if they may, and what the
// request says apart from its body: an operation without a value, and the session that
// the value is to be bound to.
func (h *Handler) stateWriter(r *http.Request, name string, q query.Query) (by author, op broker.Op, session string, err error) {
	who, err := h.writer(r)
	if err == nil {
		err = h.access.Require(who, access.ChangeState, name)
	}
	if err == nil {
		err = channel.Check(name) // before the body has come
	}
	if err == nil {
		by, err = h.author(r, who)
	}
	if err != nil {
		return by, op, "", err
	}
	op = broker.Op{Kind: broker.KindState, Channel: name, State: &broker.StateOp{}, Key: by.key}
	if op.State.If, err = preconditions.Of(r); err != nil {
		return by, op, "", err
	}
	session, err = h.boundTo(r, who, name, q)
	return by, op, session, err
}

// boundTo is the session that the query binds a value to, "" for none. It must be a
// session of the same caller, unless the caller may use any session for this channel.
// If the session is at another node, that is asked.
func (h *Handler) boundTo(r *http.Request, who *access.Caller, name string, q query.Query) (string, error) {
	id, given, err := q.One("session")
	switch {
	case err != nil || !given:
		return "", err
	case id == "" || len(id) > maxExceptLen:
		return "", problem.BadParameter.Because("session names one session, in at most %d bytes", maxExceptLen)
	}
	same, err := h.hub.IsSame(r.Context(), id, who)
	if err == nil && !same {
		err = h.access.Require(who, access.UseSessions, name)
	}
	return id, err
}

// putState sets the value of a channel to the body, whatever its type is.
func (h *Handler) putState(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	by, op, session, err := h.stateWriter(r, name, q)
	if err != nil {
		return h.fail(w, err)
	}
	if op.State.Value, err = bodies.Read(r, h.maxBody); err != nil {
		return h.fail(w, err)
	}
	if op.State.Value == nil {
		op.State.Value = []byte{} // is refused as malformed; nil would remove the value
	}
	op.State.Session = session
	return h.writeState(w, r, by, op)
}

// deleteState removes the value of a channel.
func (h *Handler) deleteState(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	by, op, _, err := h.stateWriter(r, name, q)
	if err != nil {
		return h.fail(w, err)
	}
	if q.Has("session") {
		return h.fail(w, problem.BadParameter.Because("session binds a value, and a removal leaves none"))
	}
	return h.writeState(w, r, by, op)
}

// writeState sets or removes a value and answers.
func (h *Handler) writeState(w http.ResponseWriter, r *http.Request, by author, op broker.Op) error {
	remove := op.State.Value == nil
	unconditional := op.State.If.Kind == broker.IfAny
	results, err := h.append(r.Context(), by, []broker.Op{op})
	if err != nil {
		return h.fail(w, err)
	}
	result := &results[0]
	switch {
	case result.Err == nil:
	case remove && unconditional && errors.Is(result.Err, broker.ErrStateMismatch):
		return h.fail(w, problem.NoState.Because("channel %q has no value that could be removed", op.Channel))
	case errors.Is(result.Err, broker.ErrStateMismatch):
		return h.fail(w, mismatched(w, result.State))
	default:
		return h.fail(w, result.Err)
	}
	if !remove {
		w.Header().Set("ETag", etag(result.ID))
	}
	return h.wroteState(w, result, nil)
}

// wroteState answers a write of a value, with the value if it is not nil.
func (h *Handler) wroteState(w http.ResponseWriter, result *broker.Result, value []byte) error {
	if result.Repeated {
		markReplayed(w)
	}
	body := append(make([]byte, 0, 64), `{"id":"`...)
	body = append(result.ID.AppendTo(body), '"')
	if value != nil {
		body = append(append(body, `,"value":`...), value...)
	}
	body = append(body, '}')
	status := http.StatusOK
	if result.Created {
		status = http.StatusCreated
	}
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, body)
	return nil
}
