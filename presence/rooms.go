package presence

import (
	"encoding/json"
	"strings"
	"time"
)

// room is a channel with presence.
type room struct {
	name    string
	policy  *Policy
	members map[string]*member

	unnamed     int // sessions without a user on this node
	unnamedHeld int // such sessions that have left, and are counted until their grace is over
	unnamedBack int // of those, how many have come back: their holds have no effect
	elsewhere   map[*peer]*unnamedRow

	watchers map[*Session]*watcher
	told     map[string]*told // what the watchers have been told; nil: no names
	count    count            // that they have been told
	snapshot []byte           // told, encoded; nil until it is needed
	fresh    bool             // told and count are what the watchers have
	dirty    map[string]struct{}
	next     time.Time // the watchers are told nothing before

	out        map[string]struct{} // members of this node that other nodes are to be told
	outUnnamed bool
	nameless   bool // other nodes were told too many members to tell the metadata of all
}

// member is a user in a room: present on this node, on others, or both.
type member struct {
	here   bool // on this node: own is set
	own    row
	until  time.Time // when it leaves, if it has no session
	queued bool      // it has a hold
	others map[*peer]*row
}

// row is a member on one node.
type row struct {
	sessions int
	since    int64 // milliseconds since 1970
	meta     json.RawMessage
	metaAt   int64 // when it was set; 0 for that of the claims
	round    uint64
}

type unnamedRow struct {
	n     int
	round uint64
}

// count is how many are in a room.
type count struct{ members, unnamed int }

func (c count) all() int { return c.members + c.unnamed }

// room returns the room of a channel, which it makes if there is none.
func (t *Table) room(name string, p *Policy) *room {
	r := t.rooms[name]
	if r == nil {
		name = strings.Clone(name) // it may be a part of a request
		r = &room{name: name, policy: p, members: make(map[string]*member)}
		t.rooms[name] = r
	}
	return r
}

// dropRoom removes a room.
func (t *Table) dropRoom(r *room) {
	for user, m := range r.members {
		if m.here {
			t.own--
			t.moves(r, user, time.Now())
		}
	}
	t.unnamed -= r.unnamed + r.unnamedHeld
	delete(t.rooms, r.name)
	delete(t.due, r)
	t.peers.dropRoom(r)
}

// sweep removes a room in which nobody is, and of which nobody has to be told.
func (t *Table) sweep(r *room) {
	if t.rooms[r.name] == r && len(r.members)+len(r.watchers)+len(r.elsewhere)+len(r.out)+r.unnamed+r.unnamedHeld+r.unnamedBack == 0 && !r.outUnnamed && len(r.dirty) == 0 {
		t.dropRoom(r)
	}
}

// size is how many are in the room.
func (r *room) size() count {
	c := count{len(r.members), r.unnamed + r.unnamedHeld}
	for _, other := range r.elsewhere {
		c.unnamed += other.n
	}
	return c
}

// byName reports whether the members of the room are told by name.
func (r *room) byName() bool { return len(r.members) <= r.policy.Members }

// changedOwn notes that a member of this node has changed.
func (t *Table) changedOwn(r *room, user string, now time.Time) {
	if t.config.Node != "" {
		if r.out == nil {
			r.out = make(map[string]struct{})
		}
		r.out[user] = struct{}{}
		t.setOut(r, now)
	}
	t.changed(r, user, now)
}

// changedUnnamed notes that the number of sessions without a user has changed on this
// node.
func (t *Table) changedUnnamed(r *room, now time.Time) {
	if t.config.Node != "" {
		r.outUnnamed = true
		t.setOut(r, now)
	}
	t.setDue(r, now)
}

// changed notes that a member has changed, here or elsewhere.
func (t *Table) changed(r *room, user string, now time.Time) {
	if t.tracks(r) {
		if r.dirty == nil {
			r.dirty = make(map[string]struct{})
		}
		r.dirty[user] = struct{}{}
	}
	if r.nameless && r.byName() {
		t.setOut(r, now)
	}
	t.setDue(r, now)
}

// tracks reports whether somebody is told what changes in the room.
func (t *Table) tracks(r *room) bool { return len(r.watchers) > 0 || t.observe.Load() != nil }
