package evstream

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// revocation takes back what credentials allow. One of user, token and session
// is set. What is revoked is a fact of the log, whose data this is: all nodes
// know it, also those that come later, until it is lifted or its time is over.
type revocation struct {
	User    string    `json:"user,omitempty"`    // all that was issued to the user before At
	Token   string    `json:"token,omitempty"`   // the credential with this id
	Session string    `json:"session,omitempty"` // the stream, and its credential if that has an id
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted
	// Untold says that only this node knows, because the log could not be told.
	Untold bool `json:"untold,omitempty"`
}

// Bounds of what is revoked in a broker.
const (
	maxRevocations = 100_000 // users, and as many tokens
	maxRevokedName = 1 << 10 // bytes
)

var (
	errRevoked            = errors.New("the credential was revoked")
	errTooManyRevocations = errors.New("too many revocations")
)

// revokedFact begins the names of facts that are revocations.
const revokedFact = "revoked/"

// key is what the revocation of a user or a token goes by.
func (r *revocation) key() revokedKey {
	if r.User != "" {
		return userKey(r.User)
	}
	return tokenKey(r.Token)
}

func (k revokedKey) fact() string { return revokedFact + hex.EncodeToString(k[:]) }

// name orders revocations, and names one in a list.
func (r *revocation) name() string {
	switch {
	case r.User != "":
		return "user:" + r.User
	case r.Token != "":
		return "~token:" + r.Token // after all users
	}
	return "session:" + r.Session
}

// covers reports whether a caller is one whom r takes something back from. A
// credential that does not say when it was issued may be one of before.
func (r *revocation) covers(who *caller) bool {
	if r.User != "" {
		return who.user == r.User && !who.issued.After(r.At)
	}
	return r.Token == who.tokenID || r.Token == who.parent
}

// isRevoked reports whether a caller is revoked.
func (h *hub) isRevoked(who caller, now time.Time) bool {
	return h != nil && h.revocations.covers(&who, now)
}

// mayEnter reports why who has just been identified is not let in. Before this
// node has heard what is revoked, nobody is.
func (h *hub) mayEnter(who caller, now time.Time) error {
	switch {
	case h == nil:
		return nil
	case !h.hasSettled():
		return errBehind
	case h.isRevoked(who, now):
		return errRevoked
	}
	return nil
}

// still reports why a caller who was identified a while ago is not any more.
func (h *hub) still(who caller, now time.Time) error {
	switch {
	case !who.expires.IsZero() && !now.Before(who.expires):
		return errExpired
	case h.isRevoked(who, now):
		return errRevoked
	}
	return nil
}

// revoke is the one way into what is revoked: it refuses the credentials from
// now on, and ends the streams that were opened with them. It returns how many
// of this node those were, or where it was about a session, of that one's. A
// token that has gone with its session is in r afterwards.
func (h *hub) revoke(ctx context.Context, r *revocation, now time.Time) (int, error) {
	if r.Session != "" {
		return h.revokeSession(ctx, r)
	}
	// First it is remembered, then streams are ended: one that opens meanwhile
	// is seen by one or the other, because hub.add looks under the lock that
	// the list is made under. The other nodes come last: that the log is out of
	// reach is no reason to let anybody in here.
	if err := h.revocations.add(*r, now); err != nil {
		return 0, err
	}
	ended := h.endRevoked(r.covers)
	if err := h.tellRevoked(ctx, r); err != nil {
		h.revocations.keep(*r, now)
		return ended, err
	}
	return ended, nil
}

// endRevoked ends the streams of revoked callers, and returns how many.
func (h *hub) endRevoked(covers func(*caller) bool) (ended int) {
	for _, l := range h.list() {
		// One that is ending is listed until its last words are written.
		if covers(h.callerOf(l)) && l.session.Reason() != stream.ReasonRevoked {
			l.session.Close(stream.ReasonRevoked)
			ended++
		}
	}
	return ended
}

// tellRevoked makes a revocation known to all nodes.
func (h *hub) tellRevoked(ctx context.Context, r *revocation) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	err = h.broker.SetFact(ctx, r.key().fact(), data, r.Until)
	const half = "it is in force on one node, and "
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrUncertain):
		return caused(uncertain, err, half+"whether the others were told is unknown: do it again")
	case errors.Is(err, broker.ErrTooManyFacts):
		return caused(overloaded, err, half+"there is no room to tell the others: lift some, and do it again")
	default:
		return caused(unavailable, err, half+"the others were not told, because the log is out of reach: do it again")
	}
}

// caused is a problem whose cause is no client's business.
func caused(kind problemKind, err error, detail string) *problem {
	return &problem{kind: kind, detail: detail, cause: err}
}

// heardRevocation takes in what the log says of a revocation.
func (h *hub) heardRevocation(name string, n *broker.Notice, now time.Time) {
	var key revokedKey
	if len(name) != hex.EncodedLen(len(key)) {
		return
	}
	if _, err := hex.Decode(key[:], []byte(name)); err != nil {
		return
	}
	if n.Data == nil {
		h.revocations.forget(key)
		return
	}
	var r revocation
	if err := json.Unmarshal(n.Data, &r); err != nil || r.key() != key {
		logger.Error("the log has a revocation that cannot be read", slog.String("broker", h.key.name), slog.Any("error", err))
		return
	}
	r.Untold = false
	if h.revocations.learn(r, now) {
		logger.Info("revoked, as the log says", slog.String("what", r.name()), slog.String("broker", h.key.name), slog.Int("streams", h.endRevoked(r.covers)))
	}
}

// settleRevocations is called when the log has told all of them.
func (h *hub) settleRevocations(now time.Time) {
	if gone := h.revocations.settle(now); gone > 0 {
		logger.Warn("the log does not have some revocations any more: they were lifted, or it has lost them",
			slog.String("broker", h.key.name), slog.Int("revocations", gone))
	}
	h.endRevoked(func(who *caller) bool { return h.revocations.covers(who, now) })
}

// lift takes a revocation back on all nodes, and reports whether there was one.
// Where the log cannot be told, it stays in force.
func (h *hub) lift(ctx context.Context, r *revocation, now time.Time) (bool, error) {
	key := r.key()
	had, err := h.broker.RemoveFact(ctx, key.fact())
	switch {
	case errors.Is(err, broker.ErrUncertain):
		return false, caused(uncertain, err, "whether it was lifted is unknown: do it again")
	case err != nil:
		return false, caused(unavailable, err, "it was not lifted, because the log is out of reach: do it again")
	}
	had = h.revocations.giveUp(key, now) || had
	// The log has applied it, and the listener is about to hear of it.
	patience := time.NewTimer(askPatience)
	defer patience.Stop()
	for {
		still, change := h.revocations.has(key)
		if !still {
			return had, nil
		}
		select {
		case <-change:
		case <-patience.C:
			return had, nil
		case <-ctx.Done():
			return had, nil
		}
	}
}

// revokeSession revokes a session, of whatever node.
func (h *hub) revokeSession(ctx context.Context, r *revocation) (int, error) {
	var doc revocationDoc
	if err := h.ask(ctx, r.Session, verbRevoke, r, &doc); err != nil {
		if errors.Is(err, errNoAnswer) {
			err = uncertain.because("%w: whether the session was revoked is unknown", errNoAnswer)
		}
		return 0, err
	}
	*r = doc.revocation
	return doc.Streams, nil
}

// revokeLive revokes a session of this node, as it was asked to.
func (h *hub) revokeLive(ctx context.Context, l *live, args json.RawMessage) (any, error) {
	var asked revocation
	if err := json.Unmarshal(args, &asked); err != nil {
		return nil, fmt.Errorf("reading what to revoke: %w", err)
	}
	doc := revocationDoc{revocation: revocation{
		Session: l.session.ID(), Token: h.callerOf(l).tokenID, At: asked.At, Until: asked.Until,
	}}
	if doc.Token == "" {
		l.session.Close(stream.ReasonRevoked)
		doc.Streams = 1
		return doc, nil
	}
	token := doc.revocation
	token.Session = ""
	var err error
	doc.Streams, err = h.revoke(ctx, &token, time.Now())
	return doc, err
}

// callerOf is who reads a stream.
func (h *hub) callerOf(l *live) *caller {
	h.mu.Lock()
	defer h.mu.Unlock()
	return l.who
}

// revocationDoc answers what was revoked.
type revocationDoc struct {
	revocation
	Streams int `json:"streams"` // that were ended
}

// revocationsDoc is a page of what is revoked.
type revocationsDoc struct {
	Revocations []revocation `json:"revocations"`
	Next        string       `json:"next,omitempty"`
}

// serveRevocations is the resource _revocations of the admin endpoint.
func (e *endpoint) serveRevocations(w http.ResponseWriter, r *http.Request, q query) error {
	now := time.Now()
	switch r.Method {
	case http.MethodPost:
		body, err := readBody(r, 64<<10)
		if err != nil {
			return e.fail(w, err)
		}
		rv, err := readRevocation(body, now)
		if err != nil {
			return e.fail(w, err)
		}
		ended, err := e.hub.revoke(r.Context(), &rv, now)
		if err != nil {
			return e.fail(w, err)
		}
		logger.Info("revoked", slog.String("what", rv.name()), slog.String("broker", e.hub.key.name), slog.Int("streams", ended))
		return e.answer(w, revocationDoc{rv, ended})
	case http.MethodDelete:
		user, _, err := q.one("user")
		if err != nil {
			return e.fail(w, err)
		}
		token, _, err := q.one("token")
		if err != nil {
			return e.fail(w, err)
		}
		if (user == "") == (token == "") {
			return e.fail(w, badQuery.because("name what to lift: either user or token"))
		}
		had, err := e.hub.lift(r.Context(), &revocation{User: user, Token: token}, now)
		if err != nil {
			return e.fail(w, err)
		}
		if !had {
			return e.fail(w, notFound.because("nothing of that name is revoked"))
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return e.listRevocations(w, q, now)
}

func (e *endpoint) listRevocations(w http.ResponseWriter, q query, now time.Time) error {
	after, _, err := q.one("after")
	if err != nil {
		return e.fail(w, err)
	}
	limit, err := listLimitOf(q)
	if err != nil {
		return e.fail(w, err)
	}
	doc := revocationsDoc{Revocations: []revocation{}}
	for _, rv := range e.hub.revocations.list(now) {
		switch {
		case rv.name() <= after:
		case len(doc.Revocations) == limit:
			doc.Next = doc.Revocations[limit-1].name()
			return e.answer(w, doc)
		default:
			doc.Revocations = append(doc.Revocations, rv)
		}
	}
	return e.answer(w, doc)
}

// readRevocation reads {"user"|"token"|"session", "for"}.
func readRevocation(body []byte, now time.Time) (revocation, error) {
	var members map[string]string
	if err := decode(body, &members); err != nil {
		return revocation{}, badBody.because("what to revoke is an object of strings: one of user, token and session, and how long (for)")
	}
	r := revocation{User: members["user"], Token: members["token"], Session: members["session"], At: now.UTC()}
	named := 0
	for name, value := range members {
		switch name {
		case "user", "token", "session":
			if named++; value == "" || len(value) > maxRevokedName {
				return r, badBody.because("%s has 1 to %d bytes, not %d", name, maxRevokedName, len(value))
			}
		case "for":
			d, err := caddy.ParseDuration(value)
			if err != nil || d <= 0 {
				return r, badBody.because("for is a duration such as 24h, not %q", clip(value))
			}
			r.Until = r.At.Add(d)
		default:
			return r, badBody.because("there is no member %q, only user, token, session and for", clip(name))
		}
	}
	if named != 1 {
		return r, badBody.because("name one of user, token and session, not %d", named)
	}
	return r, nil
}
