package evstream

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/stream"
)

// revocation takes back what credentials allow. One of user, token and session
// is set.
type revocation struct {
	User    string    `json:"user,omitempty"`    // all that was issued to the user before At
	Token   string    `json:"token,omitempty"`   // the credential with this id
	Session string    `json:"session,omitempty"` // the stream, and its credential if that has an id
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted
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

// revocations is what was revoked in a broker. It lives over reloads.
type revocations struct {
	mu      sync.RWMutex // guards what follows
	users   expiring[string, time.Time]
	tokens  expiring[string, time.Time]
	changed chan struct{} // closed by the next revocation; nil: nobody waits
}

// covers reports whether a caller is revoked. A credential that does not say
// when it was issued may be one of before.
func (rv *revocations) covers(who caller, now time.Time) bool {
	rv.mu.RLock()
	defer rv.mu.RUnlock()
	if who.user != "" {
		if at, ok := rv.users.get(who.user, now); ok && !who.issued.After(at) {
			return true
		}
	}
	for _, id := range [...]string{who.tokenID, who.parent} {
		if id == "" {
			continue
		}
		if _, ok := rv.tokens.get(id, now); ok {
			return true
		}
	}
	return false
}

// add remembers a revocation of a user or a token.
func (rv *revocations) add(r revocation, now time.Time) error {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	var ok bool
	if r.User != "" {
		ok = rv.users.put(r.User, r.At, r.Until, now)
	} else {
		ok = rv.tokens.put(r.Token, r.At, r.Until, now)
	}
	if !ok {
		return overloaded.because("%w: there are %d, which is all that are kept; lift some, or give them an end", errTooManyRevocations, maxRevocations)
	}
	if rv.changed != nil {
		close(rv.changed)
		rv.changed = nil
	}
	return nil
}

// next is closed when something is revoked.
func (rv *revocations) next() <-chan struct{} {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.changed == nil {
		rv.changed = make(chan struct{})
	}
	return rv.changed
}

// lift takes a revocation back, and reports whether there was one.
func (rv *revocations) lift(user, token string, now time.Time) bool {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	_, hadUser := rv.users.get(user, now)
	_, hadToken := rv.tokens.get(token, now)
	rv.users.remove(user)
	rv.tokens.remove(token)
	return hadUser || hadToken
}

// list returns what is revoked, users first, each kind by name.
func (rv *revocations) list(now time.Time) []revocation {
	rv.mu.RLock()
	defer rv.mu.RUnlock()
	var all []revocation
	for user, entry := range rv.users.entries {
		if !entry.gone(now) {
			all = append(all, revocation{User: user, At: entry.value, Until: entry.until})
		}
	}
	for token, entry := range rv.tokens.entries {
		if !entry.gone(now) {
			all = append(all, revocation{Token: token, At: entry.value, Until: entry.until})
		}
	}
	slices.SortFunc(all, func(a, b revocation) int { return cmp.Compare(a.key(), b.key()) })
	return all
}

// key orders revocations, and names one in a list.
func (r revocation) key() string {
	switch {
	case r.User != "":
		return "user:" + r.User
	case r.Token != "":
		return "~token:" + r.Token // after all users
	}
	return "session:" + r.Session
}

// isRevoked reports whether a caller is revoked.
func (h *hub) isRevoked(who caller, now time.Time) bool {
	return h != nil && h.revocations.covers(who, now)
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
// those were. A token that has gone with its session is in r afterwards.
func (h *hub) revoke(r *revocation, now time.Time) (int, error) {
	if r.Session != "" {
		return h.revokeSession(r, now)
	}
	// First it is remembered, then streams are ended: one that opens meanwhile
	// is seen by one or the other, because hub.add looks under the lock that
	// the list is made under.
	if err := h.revocations.add(*r, now); err != nil {
		return 0, err
	}
	ended := 0
	for _, l := range h.list() {
		// One that is ending is listed until its last words are written.
		if h.isRevoked(h.callerOf(l), now) && l.session.Reason() != stream.ReasonRevoked {
			l.session.Close(stream.ReasonRevoked)
			ended++
		}
	}
	return ended, nil
}

func (h *hub) revokeSession(r *revocation, now time.Time) (int, error) {
	all := h.list()
	i := slices.IndexFunc(all, func(l *live) bool { return l.session.ID() == r.Session })
	if i < 0 {
		return 0, notFound.because("there is no session %q here", clip(r.Session))
	}
	if r.Token = h.callerOf(all[i]).tokenID; r.Token == "" {
		all[i].session.Close(stream.ReasonRevoked)
		return 1, nil
	}
	token := *r
	token.Session = ""
	return h.revoke(&token, now)
}

// callerOf is who reads a stream.
func (h *hub) callerOf(l *live) caller {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *l.who
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
		ended, err := e.hub.revoke(&rv, now)
		if err != nil {
			return e.fail(w, err)
		}
		logger.Info("revoked", slog.String("what", rv.key()), slog.String("broker", e.hub.key.name), slog.Int("streams", ended))
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
		if !e.hub.revocations.lift(user, token, now) {
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
		case rv.key() <= after:
		case len(doc.Revocations) == limit:
			doc.Next = doc.Revocations[limit-1].key()
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
