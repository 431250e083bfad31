package evstream

import (
	"cmp"
	"crypto/sha256"
	"math"
	"slices"
	"sync"
	"time"
)

// revocations is what was revoked in a broker: what its log says, and what
// this node has revoked that the log does not say yet, or could not be told. It
// lives over reloads.
type revocations struct {
	mu    sync.RWMutex // guards what follows
	known *revokedTable
	// anew is what the log says, where it says all of it anew; else nil. Until
	// it is through with that, known holds: nobody gets in meanwhile.
	anew *revokedTable
	own  *revokedTable
	most int // users, and as many tokens

	changed chan struct{} // closed by the next change; nil: nobody waits
}

// revokedTable is a set of revocations by their keys.
type revokedTable struct {
	users, tokens expiring[revokedKey, revocation]
}

// revokedKey tells revocations apart: a digest of what kind a name is of, and
// of the name.
type revokedKey [sha256.Size]byte

func userKey(user string) revokedKey   { return sha256.Sum256([]byte("user " + user)) }
func tokenKey(token string) revokedKey { return sha256.Sum256([]byte("token " + token)) }

func newRevokedTable() *revokedTable {
	t := new(revokedTable)
	t.users.limit, t.tokens.limit = math.MaxInt, math.MaxInt // revocations.full bounds them
	return t
}

// of is the part of the table for what is revoked by r.
func (t *revokedTable) of(r *revocation) *expiring[revokedKey, revocation] {
	if r.User != "" {
		return &t.users
	}
	return &t.tokens
}

func (t *revokedTable) put(r *revocation, now time.Time) { t.of(r).put(r.key(), *r, r.Until, now) }

// has reports whether the table has r, as it is.
func (t *revokedTable) has(r *revocation) bool {
	entry, ok := t.of(r).entries[r.key()]
	return ok && entry.value.At.Equal(r.At) && entry.value.Until.Equal(r.Until)
}

// holds reports whether there is something by that key.
func (t *revokedTable) holds(key revokedKey) bool {
	_, user := t.users.entries[key]
	_, token := t.tokens.entries[key]
	return user || token
}

func (t *revokedTable) remove(key revokedKey) {
	t.users.remove(key)
	t.tokens.remove(key)
}

func (t *revokedTable) covers(who *caller, now time.Time) bool {
	if who.user != "" && len(t.users.entries) > 0 {
		if r, ok := t.users.get(userKey(who.user), now); ok && r.covers(who) {
			return true
		}
	}
	if len(t.tokens.entries) == 0 {
		return false
	}
	for _, id := range [...]string{who.tokenID, who.parent} {
		if id == "" {
			continue
		}
		if _, ok := t.tokens.get(tokenKey(id), now); ok {
			return true
		}
	}
	return false
}

// all are what is revoked at a time.
func (t *revokedTable) all(now time.Time) (list []revocation) {
	for _, part := range [...]*expiring[revokedKey, revocation]{&t.users, &t.tokens} {
		for _, entry := range part.entries {
			if !entry.gone(now) {
				list = append(list, entry.value)
			}
		}
	}
	return list
}

func (rv *revocations) configure(most int) {
	rv.known, rv.own, rv.most = newRevokedTable(), newRevokedTable(), most
}

// covers reports whether a caller is revoked.
func (rv *revocations) covers(who *caller, now time.Time) bool {
	rv.mu.RLock()
	defer rv.mu.RUnlock()
	return rv.known.covers(who, now) || rv.own.covers(who, now)
}

// add takes in a revocation of this node, which is in force from now on.
func (rv *revocations) add(r revocation, now time.Time) error {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.full(&r, now) {
		return overloaded.because("%w: there are %d, which is all that are kept; lift some, or give them an end", errTooManyRevocations, rv.most)
	}
	rv.own.put(&r, now)
	rv.wake()
	return nil
}

// full reports whether there is no room for r. revocations.mu is held.
func (rv *revocations) full(r *revocation, now time.Time) bool {
	key, known, own := r.key(), rv.known.of(r), rv.own.of(r)
	if rv.known.holds(key) || rv.own.holds(key) || len(known.entries)+len(own.entries) < rv.most {
		return false
	}
	known.tidy(now)
	own.tidy(now)
	return len(known.entries)+len(own.entries) >= rv.most
}

// keep notes that the log could not be told of r, which add has taken in.
func (rv *revocations) keep(r revocation, now time.Time) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.own.has(&r) {
		r.Untold = true
		rv.own.put(&r, now)
	}
}

// giveUp takes back what only this node knows by that key, and reports whether
// there was something.
func (rv *revocations) giveUp(key revokedKey, now time.Time) bool {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	for _, part := range [...]*expiring[revokedKey, revocation]{&rv.own.users, &rv.own.tokens} {
		if r, ok := part.get(key, now); ok && r.Untold {
			part.remove(key)
			return true
		}
	}
	return false
}

// learn takes in a revocation that the log tells of, and reports whether it is
// in force from now on, and was not before.
func (rv *revocations) learn(r revocation, now time.Time) (news bool) {
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

// forget takes out what the log has taken back.
func (rv *revocations) forget(key revokedKey) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	if rv.anew != nil {
		rv.anew.remove(key)
		return
	}
	rv.known.remove(key)
	rv.wake()
}

// begin notes that the log tells all of it anew.
func (rv *revocations) begin() {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	rv.anew = newRevokedTable()
}

// settle notes that the log has told all, and returns how many revocations were
// known that it does not have any more.
func (rv *revocations) settle(now time.Time) (gone int) {
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

// has reports whether something is revoked by that key, and returns what is
// closed by the next change.
func (rv *revocations) has(key revokedKey) (bool, <-chan struct{}) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	return rv.known.holds(key) || rv.own.holds(key), rv.waiting()
}

// next is closed when something changes in what is revoked.
func (rv *revocations) next() <-chan struct{} {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	return rv.waiting()
}

// waiting is closed by wake. revocations.mu is held.
func (rv *revocations) waiting() <-chan struct{} {
	if rv.changed == nil {
		rv.changed = make(chan struct{})
	}
	return rv.changed
}

// wake tells those who wait. revocations.mu is held.
func (rv *revocations) wake() {
	if rv.changed != nil {
		close(rv.changed)
		rv.changed = nil
	}
}

// list returns what is revoked, users first, each kind by name.
func (rv *revocations) list(now time.Time) []revocation {
	rv.mu.RLock()
	all := rv.own.all(now)
	for _, r := range rv.known.all(now) {
		if !rv.own.holds(r.key()) {
			all = append(all, r)
		}
	}
	rv.mu.RUnlock()
	slices.SortFunc(all, func(a, b revocation) int { return cmp.Compare(a.name(), b.name()) })
	return all
}
