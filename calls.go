package evstream

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

	"github.com/evstream/caddy-evstream/broker"
)

const (
	// askPatience is how long the node of a session has to answer.
	askPatience = 2 * time.Second
	// obeyPatience is how long a node works for one that may have given up.
	obeyPatience = 10 * time.Second
	maxCalls     = 10_000 // of this node that are open
	maxObeyed    = 256    // of other nodes, at a time
)

// errNoAnswer is the error of a call that may have been obeyed.
var errNoAnswer = errors.New("the node of the session does not answer")

// call asks the node of a session to do something with it.
type call struct {
	ID      string          `json:"id"` // random
	Session string          `json:"session"`
	Verb    string          `json:"verb"`
	Args    json.RawMessage `json:"args"`
}

// answer is what became of a call: Problem is the name of a problem.
type answer struct {
	ID      string          `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Problem string          `json:"problem,omitempty"`
	Detail  string          `json:"detail,omitempty"`
}

// The verbs of calls.
const (
	verbRevoke = "revoke" // the session: a revocation, answered by a revocationDoc
	verbSame   = "same"   // whether a caller is the session's: a digest, answered by a bool
)

// sessionVerb does what a call asks for, with a session of this node; nil
// for an unknown verb. It may be called later than the asker's patience, and
// where the log has lost something, twice.
func sessionVerb(verb string) func(*hub, context.Context, *live, json.RawMessage) (any, error) {
	switch verb {
	case verbRevoke:
		return (*hub).revokeLive
	case verbSame:
		return (*hub).isCallerOf
	}
	return nil
}

// ask has the node of a session do something with it, and reads the result into
// result. It is a noSession where the session is not there, or its node is not.
// Where the error is errNoAnswer or broker.ErrUncertain, it may have been done,
// or be done yet.
func (h *hub) ask(ctx context.Context, session, verb string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	c := call{Session: session, Verb: verb, Args: raw}
	if !h.broker.IsForeign(session) {
		raw, err = h.obey(ctx, &c)
	} else {
		raw, err = h.askNode(ctx, &c)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, result)
}

// askNode calls another node.
func (h *hub) askNode(ctx context.Context, c *call) (json.RawMessage, error) {
	if h.isGone(c.Session) {
		return nil, broker.ErrNoSession
	}
	c.ID = rand.Text()
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	answers := h.others.expect(c.ID)
	if answers == nil {
		return nil, overloaded.because("too many calls to other nodes are open: %d", maxCalls)
	}
	defer h.others.expectNot(c.ID)
	if err := h.broker.Tell(ctx, aboutCall, data); err != nil {
		return nil, err
	}
	patience := time.NewTimer(askPatience)
	defer patience.Stop()
	select {
	case a := <-answers:
		if a.Problem != "" {
			return nil, problemNamed(a.Problem, a.Detail)
		}
		return a.Result, nil
	case <-patience.C:
		if h.isGone(c.Session) {
			return nil, broker.ErrNoSession
		}
	case <-ctx.Done():
	case <-h.others.ctx.Done():
	}
	return nil, errNoAnswer
}

// isGone reports whether the node of a session is known to be gone, and so the
// session.
func (h *hub) isGone(session string) bool {
	members, known := h.broker.Members()
	return known && !slices.Contains(members, broker.NodeOf(session))
}

// expect opens a call. It returns nil where too many are.
func (o *others) expect(id string) <-chan answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.open) >= maxCalls {
		return nil
	}
	answers := make(chan answer, 1) // more than one answer is none of ours
	o.open[id] = answers
	return answers
}

func (o *others) expectNot(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, id)
}

func (o *others) heardAnswer(data []byte) {
	var a answer
	if json.Unmarshal(data, &a) != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.open[a.ID] <- a:
	default: // nobody waits for it here
	}
}

// heardCall has a call obeyed and answered that is about a session of this node.
func (h *hub) heardCall(data []byte) {
	var c call
	if json.Unmarshal(data, &c) != nil || h.broker.IsForeign(c.Session) {
		return
	}
	o := &h.others
	o.mu.Lock()
	busy := o.obeying >= maxObeyed
	if !busy {
		o.obeying++
	}
	o.mu.Unlock()
	if busy {
		logger.Error("other nodes ask too much: a call is dropped", slog.String("broker", h.key.name), slog.String("verb", clip(c.Verb)))
		return
	}
	o.errand(func(ctx context.Context) {
		defer func() {
			o.mu.Lock()
			o.obeying--
			o.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(ctx, obeyPatience)
		defer cancel()
		if err := h.reply(ctx, &c); err != nil {
			logger.Warn("answering another node", slog.String("broker", h.key.name), slog.String("verb", clip(c.Verb)), slog.Any("error", err))
		}
	})
}

// reply obeys a call of another node, and answers it.
func (h *hub) reply(ctx context.Context, c *call) error {
	a := answer{ID: c.ID}
	var err error
	if a.Result, err = h.obey(ctx, c); err != nil {
		p := problemOf(err)
		if p.kind == internal {
			logger.Error("answering another node", slog.String("broker", h.key.name), slog.String("verb", clip(c.Verb)), slog.Any("error", p.cause))
		}
		a.Problem, a.Detail = problemKinds[p.kind].name, p.detail
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return h.broker.Tell(ctx, aboutAnswer, data)
}

// obey does what a call asks for.
func (h *hub) obey(ctx context.Context, c *call) (json.RawMessage, error) {
	do := sessionVerb(c.Verb)
	if do == nil {
		return nil, unavailable.because("the node of the session does not know how to do this: %q", clip(c.Verb))
	}
	l := h.session(c.Session)
	if l == nil {
		return nil, broker.ErrNoSession
	}
	result, err := do(h, ctx, l, c.Args)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// problemNamed is the problem that another node has answered with.
func problemNamed(name, detail string) *problem {
	for kind := range problemKinds {
		if problemKinds[kind].name == name {
			return &problem{kind: problemKind(kind), detail: detail}
		}
	}
	return unavailable.because("the node of the session answers what this one does not know: %s", clip(name))
}

// isSame reports whether a caller is the one who reads a session, of whatever
// node.
func (h *hub) isSame(ctx context.Context, session string, who caller) (same bool, err error) {
	err = h.ask(ctx, session, verbSame, callerDigest(session, who), &same)
	if errors.Is(err, errNoAnswer) || errors.Is(err, broker.ErrUncertain) {
		err = unavailable.because("%w, so nothing was done", errNoAnswer)
	}
	return same, err
}

// isCallerOf answers isSame.
func (h *hub) isCallerOf(_ context.Context, l *live, args json.RawMessage) (any, error) {
	var digest []byte
	if err := json.Unmarshal(args, &digest); err != nil {
		return nil, fmt.Errorf("reading a digest: %w", err)
	}
	return bytes.Equal(digest, callerDigest(l.session.ID(), *h.callerOf(l))), nil
}

// callerDigest tells callers apart, for one session.
func callerDigest(session string, who caller) []byte {
	digest := sha256.Sum256([]byte(session + " " + who.identity()))
	return digest[:]
}
