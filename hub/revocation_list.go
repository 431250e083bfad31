package hub

import (
	"cmp"
	"crypto/sha256"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/ttlmap"
	"github.com/evstream/caddy-evstream/problem"
)

// revocationList has the revocations of a hub: those of the log, and those of this
// node that the log has not confirmed yet, or could not be told.
type revocationList struct {
	mu    sync.RWMutex     // guards what follows
	known *revocationTable // those of the log
	// anew collects those of the log while it tells all facts again, after a Reset;
	// else it is nil. Until Settled, known stays in force, so that nobody gets in
	// meanwhile.
	anew *revocationTable
	own  *revocationTable // those of this node that the log has not confirmed
	most int              // bounds the users, and the tokens

	changed chan struct{} // closed by the next change; nil while nobody waits
}

// revocationTable is a set of revocations by their keys.
type revocationTable struct {
	users, tokens ttlmap.Map[revokedKey, Revocation]
}

// revokedKey is the key of a revocation: a digest of the kind of its name, user or
// token, and the name.
type revokedKey [sha256.Size]byte

func userKey(user string) revokedKey { return sha256.Sum256([]byte("user " + user)) }

func tokenKey(token string) revokedKey { return sha256.Sum256([]byte("token " + token)) }

func newRevocationTable() *revocationTable {
	t := new(revocationTable)
	t.users.Limit, t.tokens.Limit = math.MaxInt, math.MaxInt // revocationList.full bounds them
	return t
}

// of is the map that r belongs to.
func (t *revocationTable) of(r *Revocation) *ttlmap.Map[revokedKey, Revocation] {
	if r.User != "" {
		return &t.users
	}
	return &t.tokens
}

func (t *revocationTable) put(r *Revocation, now time.Time) { t.of(r).Set(r.key(), *r, r.Until, now) }

// has reports whether the table has r, with the same times.
func (t *revocationTable) has(r *Revocation) bool {
	have, _, ok := t.of(r).Entry(r.key())
	return ok && have.At.Equal(r.At) && have.Until.Equal(r.Until)
}

// holds reports whether there is a revocation with that key, expired or not.
func (t *revocationTable) holds(key revokedKey) bool {
	return t.users.Has(key) || t.tokens.Has(key)
}

func (t *revocationTable) remove(key revokedKey) {
	t.users.Remove(key)
	t.tokens.Remove(key)
}

func (t *revocationTable) covers(who *access.Caller, now time.Time) bool {
	if who.User != "" && t.users.Len() > 0 {
		if r, ok := t.users.Get(userKey(who.User), now); ok && r.covers(who) {
			return true
		}
	}
	if t.tokens.Len() == 0 {
		return false
	}
	for _, id := range [...]string{who.TokenID, who.Parent} {
		if id == "" {
			continue
		}
		if _, ok := t.tokens.Get(tokenKey(id), now); ok {
			return true
		}
	}
	return false
}

// all returns the revocations in force at a time, in no order.
func (t *revocationTable) all(now time.Time) (list []Revocation) {
	for _, part := range [...]*ttlmap.Map[revokedKey, Revocation]{&t.users, &t.tokens} {
		for _, r := range part.All(now) {
			list = append(list, r)
		}
	}
	return list
}

func (rv *revocationList) init(most int) {
	rv.known, rv.own, rv.most = newRevocationTable(), newRevocationTable(), most
}

// covers reports whether a caller is revoked.
func (rv *revocationList) covers(who *access.Caller, now time.Time) bool {
	rv.mu.RLock()
	defer rv.mu.RUnlock()
	return rv.known.covers(who, now) || rv.own.covers(who, now)
}

// add puts a revocation of this node in force.
func (rv *revocationList) add(r Revocation, now time.Time) error {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.full(&r, now) {
		return problem.Overloaded.Because("%w: there are %d, which is all that are kept; lift some, or give them an end", errTooManyRevocations, rv.most)
	}
	rv.own.put(&r, now)
	rv.wake()
	return nil
}

// full reports whether there is no room for r. revocationList.mu is held.
func (rv *revocationList) full(r *Revocation, now time.Time) bool {
	key, known, own := r.key(), rv.known.of(r), rv.own.of(r)
	if rv.known.holds(key) || rv.own.holds(key) || known.Len()+own.Len() < rv.most {
		return false
	}
	known.Tidy(now)
	own.Tidy(now)
	return known.Len()+own.Len() >= rv.most
}

// keep marks r, which was added, as one that the log could not be told.
func (rv *revocationList) keep(r Revocation, now time.Time) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.own.has(&r) {
		r.Untold = true
		rv.own.put(&r, now)
	}
}

// giveUp removes the revocation with that key that only this node knows, and reports
// whether there was one.
func (rv *revocationList) giveUp(key revokedKey, now time.Time) bool {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	for _, part := range [...]*ttlmap.Map[revokedKey, Revocation]{&rv.own.users, &rv.own.tokens} {
		if r, ok := part.Get(key, now); ok && r.Untold {
			part.Remove(key)
			return true
		}
	}
	return false
}

// learn adds a revocation of the log. It reports whether that puts something in
// force: it does not if this node had the same one already, or while the log tells
// all facts again.
func (rv *revocationList) learn(r Revocation, now time.Time) (news bool) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.anew != nil {
		rv.anew.put(&r, now)
		return false
	}
	rv.known.put(&r, now)
	news = !rv.own.has(&r)
	if !news {
		rv.own.remove(r.key())
	}
	rv.wake()
	return news
}

// forget removes a revocation that the log does not have any more.
func (rv *revocationList) forget(key revokedKey) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.anew != nil {
		rv.anew.remove(key)
		return
	}
	rv.known.remove(key)
	rv.wake()
}

// startOver begins to collect revocations: the log tells all facts again.
func (rv *revocationList) startOver() {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	rv.anew = newRevocationTable()
}

// settle ends what startOver began, and returns how many revocations were known that
// the log does not have any more.
func (rv *revocationList) settle(now time.Time) (gone int) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.anew == nil {
		return 0
	}
	for _, r := range rv.known.all(now) {
		if !rv.anew.holds(r.key()) {
			gone++
		}
	}
	rv.known, rv.anew = rv.anew, nil
	for _, r := range rv.own.all(now) {
		if rv.known.has(&r) {
			rv.own.remove(r.key())
		}
	}
	rv.wake()
	return gone
}

// has reports whether there is a revocation with that key, and returns a chan that
// is closed by the next change.
func (rv *revocationList) has(key revokedKey) (bool, <-chan struct{}) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	return rv.known.holds(key) || rv.own.holds(key), rv.waiting()
}

// next returns a chan that is closed by the next change.
func (rv *revocationList) next() <-chan struct{} {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	return rv.waiting()
}

// waiting returns a chan that wake closes. revocationList.mu is held.
func (rv *revocationList) waiting() <-chan struct{} {
	if rv.changed == nil {
		rv.changed = make(chan struct{})
	}
	return rv.changed
}

// wake wakes those who wait for a change. revocationList.mu is held.
func (rv *revocationList) wake() {
	if rv.changed != nil {
		close(rv.changed)
		rv.changed = nil
	}
}

// list returns the revocations in force at a time, ordered by name.
func (rv *revocationList) list(now time.Time) []Revocation {
	rv.mu.RLock()
	all := rv.own.all(now)
	for _, r := range rv.known.all(now) {
		if !rv.own.holds(r.key()) {
			all = append(all, r)
		}
	}
	rv.mu.RUnlock()
	slices.SortFunc(all, func(a, b Revocation) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}
