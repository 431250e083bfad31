package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
)

const (
	// callTimeout is how long a call waits for a reply.
	callTimeout = 2 * time.Second
	// handleTimeout is how long a call of another node is worked on. By then its
	// caller may have given up.
	handleTimeout = 10 * time.Second
	maxCalls      = 10_000 // of this node that wait for a reply
	maxHandled    = 256    // of other nodes that are handled at a time
)

// errNoReply is the error of a call without a reply. It may have been handled.
var errNoReply = errors.New("the node of the session does not answer")

// nodeCall asks the node of a session to do something with it.
type nodeCall struct {
	ID      string          `json:"id"` // random
	Session string          `json:"session"`
	Verb    string          `json:"verb"`
	Args    json.RawMessage `json:"args"`
}

// callReply is what came of a call: a result or a problem.
type callReply struct {
	ID      string          `json:"id"` // of the call
	Result  json.RawMessage `json:"result,omitempty"`
	Problem string          `json:"problem,omitempty"` // its kind
	Detail  string          `json:"detail,omitempty"`
}

// The verbs of calls.
const (
	verbRevoke = "revoke" // revokes the session: from a Revocation to a Revoked
	verbSame   = "same"   // is a caller the session's? From its digest to a bool

	verbDescribe = "describe" // these are from a sessionCall to a sessionReply
	verbEnd      = "end"
	verbSend     = "send"
	verbJoin     = "join"
	verbLeave    = "leave"

	verbList = "list" // of a node, and not of a session: from a listCall to a listReply

	verbStop = "stop" // a run of this node: from its reason to nothing

	verbPresent = "present" // sets the metadata of the session's user: from a presentCall to nothing
)

// sessionVerb is the function that handles a verb for a session of this node; nil
// for an unknown verb. The function may be called when the caller has given up, and
// after the log has lost something, twice for one call.
func sessionVerb(verb string) func(*Hub, context.Context, *Session, json.RawMessage) (any, error) {
	switch verb {
	case verbRevoke:
		return (*Hub).onRevoke
	case verbSame:
		return (*Hub).onSame
	case verbDescribe, verbEnd, verbSend, verbJoin, verbLeave:
		return func(h *Hub, ctx context.Context, s *Session, args json.RawMessage) (any, error) {
			return h.onSession(ctx, verb, s, args)
		}
	case verbPresent:
		return (*Hub).onPresent
	}
	return nil
}

// call has the node of a session handle a verb, and unmarshals the result into
// result. The error is broker.ErrNoSession where there is no such session, or its
// node is gone. With errNoReply or broker.ErrUncertain the call may have been
// handled, or may be yet.
func (h *Hub) call(ctx context.Context, session, verb string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	c := nodeCall{Session: session, Verb: verb, Args: raw}
	if !h.broker.IsForeign(session) {
		raw, err = h.handleCall(ctx, &c)
	} else {
		raw, err = h.callNode(ctx, &c)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, result)
}

// callNode sends a call to the nodes, and waits for the reply of the one that it is
// for.
func (h *Hub) callNode(ctx context.Context, c *nodeCall) (json.RawMessage, error) {
	if h.isGone(c.Session) {
		return nil, broker.ErrNoSession
	}
	c.ID = rand.Text()
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	replies := h.cluster.addCall(c.ID)
	if replies == nil {
		return nil, problem.Overloaded.Because("too many calls to other nodes are open: %d", maxCalls)
	}
	defer h.cluster.removeCall(c.ID)
	if err := h.broker.Tell(ctx, aboutCall, data); err != nil {
		return nil, err
	}
	patience := time.NewTimer(callTimeout)
	defer patience.Stop()
	select {
	case r := <-replies:
		switch r.Problem {
		case "":
			return r.Result, nil
		case string(problem.NoSession):
			return nil, broker.ErrNoSession
		default:
			return nil, problemNamed(r.Problem, r.Detail)
		}
	case <-patience.C:
		if h.isGone(c.Session) {
			return nil, broker.ErrNoSession
		}
	case <-ctx.Done():
	case <-h.cluster.ctx.Done():
	}
	return nil, errNoReply
}

// isGone reports whether the node of a session is known to be gone, and the session
// with it.
func (h *Hub) isGone(session string) bool {
	members, known := h.broker.Members()
	return known && !slices.Contains(members, broker.NodeOf(session))
}

// addCall returns the chan that gets the reply to a call, until removeCall; nil if
// too many calls wait.
func (o *cluster) addCall(id string) <-chan callReply {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.open) >= maxCalls {
		return nil
	}
	replies := make(chan callReply, 1) // onReply drops any other
	o.open[id] = replies
	return replies
}

// removeCall ends what addCall began.
func (o *cluster) removeCall(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, id)
}

// onReply passes a reply on to the call that waits for it.
func (o *cluster) onReply(data []byte) {
	var r callReply
	if json.Unmarshal(data, &r) != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.open[r.ID] <- r:
	default: // the call is another node's, or has its reply, or was given up
	}
}

// onCall handles a call about a session of this node, on a goroutine of its own,
// and ignores others.
func (h *Hub) onCall(data []byte) {
	var c nodeCall
	if json.Unmarshal(data, &c) != nil || h.broker.IsForeign(c.Session) {
		return
	}
	o := &h.cluster
	o.mu.Lock()
	busy := o.handling >= maxHandled
	if !busy {
		o.handling++
	}
	o.mu.Unlock()
	if busy {
		h.logger.Error("a call of another node is dropped: too many are being handled", slog.String("broker", h.name), slog.String("verb", problem.Clip(c.Verb)))
		return
	}
	o.goTask(func(ctx context.Context) {
		defer func() {
			o.mu.Lock()
			o.handling--
			o.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(ctx, handleTimeout)
		defer cancel()
		if err := h.reply(ctx, &c); err != nil {
			h.logger.Warn("answering another node", slog.String("broker", h.name), slog.String("verb", problem.Clip(c.Verb)), slog.Any("error", err))
		}
	})
}

// reply handles a call of another node, and sends the reply.
func (h *Hub) reply(ctx context.Context, c *nodeCall) error {
	r := callReply{ID: c.ID}
	var err error
	if r.Result, err = h.handleCall(ctx, c); err != nil {
		p := problem.Of(err)
		if p.Kind == problem.Internal {
			h.logger.Error("answering another node", slog.String("broker", h.name), slog.String("verb", problem.Clip(c.Verb)), slog.Any("error", p.Cause))
		}
		r.Problem, r.Detail = string(p.Kind), p.Detail
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return h.broker.Tell(ctx, aboutReply, data)
}

// handleCall handles a call about a session of this node.
func (h *Hub) handleCall(ctx context.Context, c *nodeCall) (json.RawMessage, error) {
	if c.Verb == verbList {
		list, err := h.onList(c.Args)
		if err != nil {
			return nil, err
		}
		return json.Marshal(list)
	}
	if c.Verb == verbStop {
		var reason string
		if err := json.Unmarshal(c.Args, &reason); err != nil {
			return nil, err
		}
		return json.RawMessage("{}"), h.runs.Stop(ctx, c.Session, reason)
	}
	do := sessionVerb(c.Verb)
	if do == nil {
		return nil, problem.Unavailable.Because("the node of the session does not know the verb %q", problem.Clip(c.Verb))
	}
	s := h.Session(c.Session)
	if s == nil {
		return nil, broker.ErrNoSession
	}
	result, err := do(h, ctx, s, c.Args)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// problemNamed is the problem in a reply of another node. One of a later version may
// be of a kind that is not known here.
func problemNamed(name, detail string) *problem.Error {
	if kind := problem.Kind(name); kind.Known() {
		return kind.Hiding(nil, detail)
	}
	return problem.Unavailable.Because("the node of the session answers with a problem that is not known here: %s", problem.Clip(name))
}

// IsSame reports whether a caller is the one who reads a session, whichever node
// serves it. The error is broker.ErrNoSession where there is no such session.
func (h *Hub) IsSame(ctx context.Context, session string, who *access.Caller) (same bool, err error) {
	err = h.call(ctx, session, verbSame, callerDigest(session, who), &same)
	if errors.Is(err, errNoReply) || errors.Is(err, broker.ErrUncertain) {
		err = problem.Unavailable.Because("%w, so nothing was done", errNoReply)
	}
	return same, err
}

// onSame handles verbSame.
func (h *Hub) onSame(_ context.Context, s *Session, args json.RawMessage) (any, error) {
	var digest []byte
	if err := json.Unmarshal(args, &digest); err != nil {
		return nil, fmt.Errorf("reading a digest: %w", err)
	}
	return bytes.Equal(digest, callerDigest(s.Stream.ID(), h.Standing(s).Caller)), nil
}

// callerDigest is a digest of a caller's identity. The session is part of it, so
// that digests in the log cannot be compared between sessions.
func callerDigest(session string, who *access.Caller) []byte {
	digest := sha256.Sum256([]byte(session + " " + who.Identity()))
	return digest[:]
}
