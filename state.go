package evstream

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
)

// What rules can allow to do with state.
const (
	doState   = "state"   // set, change and remove values
	doSession = "session" // bind a value to somebody else's session
)

// getState answers with the value of a channel. Who may subscribe may read it.
func (e *endpoint) getState(w http.ResponseWriter, r *http.Request, name string) error {
	w.Header().Add("Vary", "Accept") // the same URL is a stream
	who, err := e.reader(r)
	if err == nil {
		err = e.access.require(who, doSubscribe, name)
	}
	if err == nil {
		err = broker.CheckName(name)
	}
	if err == nil {
		err = e.current(w, r)
	}
	if err != nil {
		return e.fail(w, err)
	}
	state := e.hub.broker.State(name)
	condition, err := conditionOf(r)
	if err != nil {
		return e.fail(w, err)
	}
	if state.Value == nil {
		if condition.Kind == broker.IfVersion || condition.Kind == broker.IfPresent {
			return e.fail(w, mismatched(w, &state))
		}
		return e.fail(w, noState.because("channel %q has no value; PUT sets one, ?poll=1 answers with events, ?info with the channel's document", name))
	}
	h := w.Header()
	h.Set("ETag", etag(state.Version))
	h.Set("Cache-Control", "private, no-cache, no-transform")
	if !condition.Holds(&state) {
		if r.Header["If-Match"] != nil {
			return e.fail(w, mismatched(w, &state))
		}
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(state.Value)+1))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(slices.Clip(state.Value), '\n'))
	}
	return nil
}

// stateWriter decides whether a request may write the value of a channel, and
// reads what it says beside its body.
func (e *endpoint) stateWriter(r *http.Request, name string, q query) (by author, op broker.Op, session string, err error) {
	who, err := e.writer(r)
	if err == nil {
		err = e.access.require(who, doState, name)
	}
	if err == nil {
		by, err = e.author(r, who)
	}
	if err != nil {
		return by, op, "", err
	}
	op = broker.Op{Kind: broker.KindState, Channel: name, State: &broker.StateOp{}, Key: by.key}
	if op.State.If, err = conditionOf(r); err != nil {
		return by, op, "", err
	}
	session, err = e.boundTo(r, who, name, q)
	return by, op, session, err
}

// boundTo is the session that the query binds a value to. It is the caller's
// own, or the caller may do that with any for this channel. It may be one of
// another node, which is asked.
func (e *endpoint) boundTo(r *http.Request, who caller, name string, q query) (string, error) {
	id, given, err := q.one("session")
	switch {
	case err != nil || !given:
		return "", err
	case id == "" || len(id) > maxExceptLen:
		return "", badQuery.because("session names one session, in at most %d bytes", maxExceptLen)
	}
	same, err := e.hub.isSame(r.Context(), id, who)
	if err == nil && !same {
		err = e.access.require(who, doSession, name)
	}
	return id, err
}

// putState sets the value of a channel to the body, whatever its type is.
func (e *endpoint) putState(w http.ResponseWriter, r *http.Request, name string, q query) error {
	by, op, session, err := e.stateWriter(r, name, q)
	if err != nil {
		return e.fail(w, err)
	}
	if op.State.Value, err = readBody(r, e.maxBody); err != nil {
		return e.fail(w, err)
	}
	if op.State.Value == nil {
		op.State.Value = []byte{} // which is no value; nil would remove it
	}
	op.State.Session = session
	return e.writeState(w, r, by, op)
}

// deleteState removes the value of a channel.
func (e *endpoint) deleteState(w http.ResponseWriter, r *http.Request, name string, q query) error {
	by, op, _, err := e.stateWriter(r, name, q)
	if err != nil {
		return e.fail(w, err)
	}
	if q.has("session") {
		return e.fail(w, badQuery.because("session binds a value, and a removal leaves none"))
	}
	return e.writeState(w, r, by, op)
}

// writeState does one operation on a value and answers.
func (e *endpoint) writeState(w http.ResponseWriter, r *http.Request, by author, op broker.Op) error {
	remove := op.State.Value == nil
	unconditional := op.State.If.Kind == broker.IfAny
	results, err := e.append(r.Context(), by, []broker.Op{op})
	if err != nil {
		return e.fail(w, err)
	}
	result := &results[0]
	switch {
	case result.Err == nil:
	case remove && unconditional && errors.Is(result.Err, broker.ErrStateMismatch):
		return e.fail(w, noState.because("channel %q has no value that could be removed", op.Channel))
	case errors.Is(result.Err, broker.ErrStateMismatch):
		return e.fail(w, mismatched(w, result.State))
	default:
		return e.fail(w, result.Err)
	}
	if !remove {
		w.Header().Set("ETag", etag(result.ID))
	}
	return e.wroteState(w, result, nil)
}

// wroteState answers a write, with the value where that is not nil.
func (e *endpoint) wroteState(w http.ResponseWriter, result *broker.Result, value []byte) error {
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

// etag is the entity tag of a version.
func etag(version broker.ID) string { return `"` + version.String() + `"` }

// mismatched is the answer to a request whose precondition does not hold for
// what the channel has. It tells the version of that.
func mismatched(w http.ResponseWriter, state *broker.State) error {
	if state == nil || state.Value == nil {
		w.Header().Del("ETag")
		return mismatch.because("the channel has no value")
	}
	w.Header().Set("ETag", etag(state.Version))
	return mismatch.because("the channel's value has the version %s", state.Version)
}

// conditionOf reads If-Match and If-None-Match.
func conditionOf(r *http.Request) (c broker.Condition, err error) {
	match, none := r.Header["If-Match"], r.Header["If-None-Match"]
	switch {
	case match != nil && none != nil:
		return c, badCondition.because("If-Match and If-None-Match do not go together here; send one of them")
	case match != nil:
		all, versions, err := versionsOf("If-Match", match, false)
		if c = (broker.Condition{Kind: broker.IfVersion, Versions: versions}); all {
			c = broker.Condition{Kind: broker.IfPresent}
		}
		return c, err
	case none != nil:
		all, versions, err := versionsOf("If-None-Match", none, true)
		if c = (broker.Condition{Kind: broker.IfNotVersion, Versions: versions}); all {
			c = broker.Condition{Kind: broker.IfAbsent}
		}
		return c, err
	}
	return c, nil
}

// maxTags bounds the entity tags of one precondition.
const maxTags = 100

// versionsOf reads entity tags: all of them for *, or the versions of those
// that could be the hub's.
func versionsOf(name string, lines []string, weak bool) (all bool, versions []broker.ID, err error) {
	n := 0
	for rest := strings.TrimSpace(strings.Join(lines, ",")); rest != ""; n++ {
		if rest == "*" && n == 0 {
			return true, nil, nil
		}
		tag, isWeak := strings.CutPrefix(rest, "W/")
		tag, quoted := strings.CutPrefix(tag, `"`)
		text, after, ended := strings.Cut(tag, `"`)
		after = strings.TrimLeft(after, " \t")
		if !quoted || !ended || after != "" && after[0] != ',' || n == maxTags {
			return false, nil, badCondition.because(`%s is * or up to %d versions in quotes, such as "1763687000123-0", as ETag gives them, not %s`, name, maxTags, clip(rest))
		}
		rest = strings.TrimLeft(strings.TrimPrefix(after, ","), " \t,")
		if version, ok := broker.ParseID(text); ok && (weak || !isWeak) {
			versions = append(versions, version)
		}
	}
	if n == 0 {
		return false, nil, badCondition.because("%s is empty", name)
	}
	return false, versions, nil
}
