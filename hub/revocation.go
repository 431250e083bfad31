package hub

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/stream"
)

// Revocation says which credentials are refused. One of User, Token and Session is
// set. In JSON it is the data of a fact of the log, so that all nodes know it, also
// those that come later, until it is lifted or expires.
type Revocation struct {
	User    string    `json:"user,omitempty"`    // all credentials that may have been issued to the user before At
	Token   string    `json:"token,omitempty"`   // the credential with this id
	Session string    `json:"session,omitempty"` // the stream, and its credential if that has an id
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted
	// Untold says that only this node knows it, because the log was out of reach.
	Untold bool `json:"untold,omitempty"`
}

// Bounds of the revocations of a hub.
const (
	maxRevocations = 100_000 // of users, and as many of tokens
	// MaxRevokedName is the length of a User, Token or Session that is accepted, in
	// bytes. The hub does not check it.
	MaxRevokedName = 1 << 10
)

var errTooManyRevocations = errors.New("too many revocations")

// revokedFact begins the names of facts that are revocations.
const revokedFact = "revoked/"

// key is the key of the revocation of a user or a token.
func (r *Revocation) key() revokedKey {
	if r.User != "" {
		return userKey(r.User)
	}
	return tokenKey(r.Token)
}

func (k revokedKey) fact() string { return revokedFact + hex.EncodeToString(k[:]) }

// Name identifies a revocation in a list, which is ordered by it.
func (r *Revocation) Name() string {
	switch {
	case r.User != "":
		return "user:" + r.User
	case r.Token != "":
		return "~token:" + r.Token // after all users
	}
	return "session:" + r.Session
}

// covers reports whether r refuses a caller's credential. One that does not say when
// it was issued counts as issued before r.
func (r *Revocation) covers(who *access.Caller) bool {
	if r.User != "" {
		return who.User == r.User && !who.Issued.After(r.At)
	}
	return r.Token == who.TokenID || r.Token == who.Parent
}

// IsRevoked reports whether the credential of a caller is revoked.
func (h *Hub) IsRevoked(who *access.Caller, now time.Time) bool {
	return h.revocations.covers(who, now)
}

// MayEnter reports why a caller who has just been identified is not let in: the
// error is access.ErrRevoked, or ErrBehind as long as this node has not heard who is
// revoked.
func (h *Hub) MayEnter(who *access.Caller, now time.Time) error {
	switch {
	case !h.cluster.hasSettled():
		return ErrBehind
	case h.IsRevoked(who, now):
		return access.ErrRevoked
	}
	return nil
}

// MayGoOn reports why a caller who was let in before may not go on: the error is
// access.ErrExpired or access.ErrRevoked.
func (h *Hub) MayGoOn(who *access.Caller, now time.Time) error {
	switch {
	case !who.Expires.IsZero() && !now.Before(who.Expires):
		return access.ErrExpired
	case h.IsRevoked(who, now):
		return access.ErrRevoked
	}
	return nil
}

// RevocationsChanged returns a chan that is closed by the next change of the
// revocations. Get it before looking at them, so that no change is missed.
func (h *Hub) RevocationsChanged() <-chan struct{} { return h.revocations.next() }

// Revocations returns those in force, ordered by Name. The slice is the caller's.
func (h *Hub) Revocations(now time.Time) []Revocation { return h.revocations.list(now) }

// Revoke refuses credentials from now on, and ends the streams that were opened with
// them. It returns how many of those this node served; for a session, the node of
// that session. If the credential of a session has an id, it is revoked with the
// session, and r.Token is set to it.
//
// The error is broker.ErrNoSession where there is no such session, or else one for
// problem.Of. Where other nodes were not told, or may not have been, a revocation of
// a user or a token is in force on this node all the same, and may be repeated.
func (h *Hub) Revoke(ctx context.Context, r *Revocation, now time.Time) (int, error) {
	if r.Session != "" {
		return h.revokeSession(ctx, r)
	}
	// It is remembered first, and streams are ended then. One that opens meanwhile
	// is refused by Add or is among those that are ended, because Add checks and
	// inserts under the lock that Sessions takes. Other nodes are told last: when
	// the log is out of reach, it is in force here at least.
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

// endRevoked ends the streams of those callers for whom covers reports true, and
// returns how many.
func (h *Hub) endRevoked(covers func(*access.Caller) bool) (ended int) {
	for _, s := range h.Sessions() {
		// A stream that is ending is listed until its last frame is written.
		if covers(h.Standing(s).Caller) && s.Stream.Reason() != stream.ReasonRevoked {
			s.Stream.Close(stream.ReasonRevoked)
			ended++
		}
	}
	return ended
}

// tellRevoked makes a revocation a fact of the log.
func (h *Hub) tellRevoked(ctx context.Context, r *Revocation) error {
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
		return problem.Uncertain.Hiding(err, half+"whether the others were told is unknown: do it again")
	case errors.Is(err, broker.ErrTooManyFacts):
		return problem.Overloaded.Hiding(err, half+"there is no room to tell the others: lift some, and do it again")
	default:
		return problem.Unavailable.Hiding(err, half+"the others were not told, because the log is out of reach: do it again")
	}
}

// onRevocation handles the fact of a revocation.
func (h *Hub) onRevocation(name string, n *broker.Notice, now time.Time) {
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
	var r Revocation
	if err := json.Unmarshal(n.Data, &r); err != nil || r.key() != key {
		h.logger.Error("the log has a revocation that cannot be read", slog.String("broker", h.name), slog.Any("error", err))
		return
	}
	r.Untold = false
	if h.revocations.learn(r, now) {
		h.logger.Info("revoked, as the log says", slog.String("what", r.Name()), slog.String("broker", h.name), slog.Int("streams", h.endRevoked(r.covers)))
	}
}

// settleRevocations is called when all facts were heard that the log had.
func (h *Hub) settleRevocations(now time.Time) {
	if gone := h.revocations.settle(now); gone > 0 {
		h.logger.Warn("the log does not have some revocations any more: they were lifted, or it has lost them",
			slog.String("broker", h.name), slog.Int("revocations", gone))
	}
	h.endRevoked(func(who *access.Caller) bool { return h.revocations.covers(who, now) })
}

// Lift ends a revocation of a user or a token on all nodes, and reports whether there
// was one. When it returns nil, this node has heard of it, unless ctx ended first or
// that took too long. The error is a *problem.Error; where the log was out of reach
// the revocation stays in force.
func (h *Hub) Lift(ctx context.Context, r *Revocation, now time.Time) (bool, error) {
	key := r.key()
	had, err := h.broker.RemoveFact(ctx, key.fact())
	switch {
	case errors.Is(err, broker.ErrUncertain):
		return false, problem.Uncertain.Hiding(err, "whether it was lifted is unknown: do it again")
	case err != nil:
		return false, problem.Unavailable.Hiding(err, "it was not lifted, because the log is out of reach: do it again")
	}
	had = h.revocations.giveUp(key, now) || had
	// The log has applied it, and onRevocation is about to be called.
	patience := time.NewTimer(callTimeout)
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

// revokeSession revokes a session, whichever node serves it.
func (h *Hub) revokeSession(ctx context.Context, r *Revocation) (int, error) {
	var doc Revoked
	if err := h.call(ctx, r.Session, verbRevoke, r, &doc); err != nil {
		if errors.Is(err, errNoReply) {
			err = problem.Uncertain.Because("%w: whether the session was revoked is unknown", errNoReply)
		}
		return 0, err
	}
	*r = doc.Revocation
	return doc.Streams, nil
}

// onRevoke handles verbRevoke.
func (h *Hub) onRevoke(ctx context.Context, s *Session, args json.RawMessage) (any, error) {
	var asked Revocation
	if err := json.Unmarshal(args, &asked); err != nil {
		return nil, fmt.Errorf("reading what to revoke: %w", err)
	}
	doc := Revoked{Revocation: Revocation{
		Session: s.Stream.ID(), Token: h.Standing(s).Caller.TokenID, At: asked.At, Until: asked.Until,
	}}
	if doc.Token == "" {
		s.Stream.Close(stream.ReasonRevoked)
		doc.Streams = 1
		return doc, nil
	}
	token := doc.Revocation
	token.Session = ""
	var err error
	doc.Streams, err = h.Revoke(ctx, &token, time.Now())
	return doc, err
}

// Revoked is the result of a revocation.
type Revoked struct {
	Revocation
	Streams int `json:"streams"` // how many were ended; see Revoke
}
