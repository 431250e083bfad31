package presence

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Member is a member of a channel.
type Member struct {
	User     string          `json:"user"`
	Sessions int             `json:"sessions"` // 0 within its grace
	Since    time.Time       `json:"since"`
	Meta     json.RawMessage `json:"meta,omitempty"`
}

// Page is who is in a channel.
type Page struct {
	Count   int // of members and of sessions without a user
	Unnamed int // sessions without a user
	// Members are some of the members, by their names; nil if there are too many to
	// tell them by name.
	Members []Member
	Next    string // what to go on after; "" at the end
	Partial bool   // the members on some node are not known for sure
}

// Members returns at most limit members of a channel whose names sort after a name.
func (t *Table) Members(name, after string, limit int) (page Page) {
	sure := t.config.Node == ""
	if !sure {
		_, sure = t.config.Members()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	page.Partial = !sure || t.config.Node != "" && !t.peers.complete()
	r := t.rooms[name]
	if r == nil {
		page.Members = []Member{}
		return page
	}
	size := r.size()
	page.Count, page.Unnamed = size.all(), size.unnamed
	if !r.byName() {
		return page
	}
	names := slices.Sorted(maps.Keys(r.members))
	i, found := slices.BinarySearch(names, after)
	if found {
		i++
	}
	page.Members = make([]Member, 0, min(limit, len(names)-i))
	for _, user := range names[i:] {
		if len(page.Members) == limit {
			page.Next = page.Members[limit-1].User
			break
		}
		m := r.members[user]
		v := m.view(user)
		page.Members = append(page.Members, Member{user, m.sessions(), v.Since, v.Meta})
	}
	return page
}

// complete reports whether all is known that the other nodes have told.
func (p *peers) complete() bool {
	for _, other := range p.all {
		if !other.synced {
			return false
		}
	}
	return p.seq > 0 // the others have been asked
}

// SetMeta sets the metadata of a member: see CheckMeta. It lasts as long as the user is
// a member. On other nodes it shows shortly after. The error is ErrNotMember.
func (t *Table) SetMeta(name, user string, meta json.RawMessage) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rooms[name]
	if r == nil || r.members[user] == nil {
		return ErrNotMember
	}
	m := r.members[user]
	set := metaMessage{name, user, meta, max(now.UnixMilli(), m.own.metaAt+1)}
	for _, other := range m.others {
		set.MetaAt = max(set.MetaAt, other.metaAt+1)
	}
	t.hearMeta(&set, now)
	if len(m.others) > 0 {
		t.peers.metas[metaKey{name, user}] = set
		t.setOutAt(now)
	}
	return nil
}

// hearMeta sets the metadata of a member of this node.
func (t *Table) hearMeta(set *metaMessage, now time.Time) {
	r := t.rooms[set.Channel]
	if r == nil {
		return
	}
	if m := r.members[set.User]; m != nil && m.here && set.MetaAt > m.own.metaAt {
		m.own.meta, m.own.metaAt = set.Meta, set.MetaAt
		t.changedOwn(r, set.User, now)
	}
}
