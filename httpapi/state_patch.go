package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

// The media types that PATCH takes.
const (
	mergePatch  = "application/merge-patch+json"
	jsonPatch   = "application/json-patch+json"
	acceptPatch = mergePatch + ", " + jsonPatch
)

// maxPatch bounds the body of a PATCH, in bytes. Decoded it takes many times as much
// memory, and the value that it makes is bounded by broker.MaxState anyway.
const maxPatch = 2 * broker.MaxState

// change computes a new value from the old one, which is nil if there is none.
type change func(old []byte) ([]byte, error)

// patchState computes the new value of a channel from the old one, atomically: no
// concurrent write is lost.
func (h *Handler) patchState(w http.ResponseWriter, r *http.Request, name string, q query.Query) error {
	w.Header().Set("Accept-Patch", acceptPatch)
	by, op, session, err := h.stateWriter(r, name, q)
	if err != nil {
		return h.fail(w, err)
	}
	body, err := bodies.Read(r, min(h.maxBody, maxPatch))
	if err != nil {
		return h.fail(w, err)
	}
	apply, what, err := changeOf(r, q, body)
	if err != nil {
		return h.fail(w, err)
	}
	counts := q.Has("incr")
	update := broker.Update{Channel: name, Key: op.Key, Answer: counts, Owner: by.owner}
	if session != "" {
		update.Session = &session
	}
	if op.Key != (broker.Key{}) {
		update.Asked = spell(what, session, r, body)
	}
	if err := h.mayAppend(by, []broker.Op{op}, len(body)); err != nil {
		return h.fail(w, err)
	}
	result, err := h.hub.Broker().Update(r.Context(), update, func(old broker.State) ([]byte, error) {
		if !op.State.If.Holds(&old) {
			return nil, mismatched(w, &old)
		}
		value, err := apply(old.Value)
		if err != nil {
			return nil, err
		}
		if err := h.hub.CheckRules(r.Context(), []broker.Op{{Kind: broker.KindState, Channel: name, State: &broker.StateOp{Value: value}}}); err != nil {
			return nil, errors.Unwrap(err) // there is one operation
		}
		return value, nil
	})
	h.Published(r.Context(), []broker.Op{op}, []broker.Result{result}, err)
	if err != nil {
		if !errors.Is(err, broker.ErrUncertain) {
			h.hub.NotPublished(by.publisher, len(body))
		}
		return h.fail(w, err)
	}
	w.Header().Set("ETag", etag(result.ID))
	var value []byte
	if counts && result.State != nil {
		value = result.State.Value
	}
	return h.wroteState(w, &result, value)
}

// changeOf parses a PATCH. what is its media type, or the increment of the query.
func changeOf(r *http.Request, q query.Query, body []byte) (apply change, what string, err error) {
	by, given, err := q.One("incr")
	if err != nil {
		return nil, "", err
	}
	if given {
		if len(body) > 0 {
			return nil, "", problem.BadBody.Because("with ?incr= there is no body")
		}
		apply, err = increment(by)
		return apply, "incr=" + by, err
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch media = strings.ToLower(strings.TrimSpace(media)); media {
	case mergePatch:
		apply, err = merge(body)
	case jsonPatch:
		apply, err = patch(body)
	default:
		err = problem.BadMedia.Because("PATCH takes %s or %s, or ?incr= without a body, not Content-Type %q", mergePatch, jsonPatch, problem.Clip(media))
	}
	return apply, media, err
}

// increment adds to a number; no value counts as 0.
func increment(by string) (change, error) {
	by = strings.ReplaceAll(by, " ", "+") // in a query a plus sign is a space
	by = strings.TrimPrefix(by, "+")
	if _, err := jsonvalue.Add([]byte("0"), []byte(by)); err != nil {
		return nil, problem.BadParameter.Because("incr is a number such as 1 or -0.5, not %q: %w", problem.Clip(by), err)
	}
	return func(old []byte) ([]byte, error) {
		if old == nil {
			old = []byte("0")
		}
		sum, err := jsonvalue.Add(old, []byte(by))
		switch {
		case errors.Is(err, jsonvalue.ErrNotNumber):
			return nil, problem.Conflict.Because("the value is %s: %w", problem.Clip(string(old)), err)
		case err != nil:
			return nil, problem.Unprocessable.Because("%w", err)
		}
		return sum, nil
	}, nil
}

// merge parses a merge patch, which also applies where there is no value.
func merge(body []byte) (change, error) {
	patch, err := jsonvalue.Parse(body)
	if err != nil {
		return nil, patchProblem(err)
	}
	return func(old []byte) ([]byte, error) {
		var target *jsonvalue.Value
		if old != nil {
			if target, err = jsonvalue.Parse(old); err != nil {
				return nil, err
			}
		}
		merged := jsonvalue.Merge(target, patch)
		if err := merged.Check(); err != nil {
			return nil, err
		}
		return merged.Append(nil), nil
	}, nil
}

// patch parses a JSON patch, which needs a value.
func patch(body []byte) (change, error) {
	patch, err := jsonvalue.ParsePatch(body)
	if err != nil {
		return nil, patchProblem(err)
	}
	return func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, problem.NoState.Because("the channel has no value that the patch could change; PUT sets one")
		}
		target, err := jsonvalue.Parse(old)
		if err != nil {
			return nil, err
		}
		changed, err := patch.Apply(target)
		if err != nil {
			return nil, patchProblem(err)
		}
		return changed.Append(nil), nil
	}, nil
}

// patchProblem is the problem of a patch that failed, with the operation that did.
func patchProblem(err error) error {
	kind := problem.BadPatch
	switch {
	case errors.Is(err, jsonvalue.ErrMissing), errors.Is(err, jsonvalue.ErrTest):
		kind = problem.Conflict
	case errors.Is(err, jsonvalue.ErrBounds):
		kind = problem.Unprocessable
	}
	p := kind.Because("%w", err)
	if at, ok := errors.AsType[*jsonvalue.PatchError](err); ok && at.Op >= 0 {
		p.Operation, p.Pointer = &at.Op, &at.Path
	}
	return p
}
