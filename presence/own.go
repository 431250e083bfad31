package presence

import "time"

// Own says that a user has become a member of a channel on this node, or has ceased to
// be one, whether or not the user is a member on others.
type Own struct {
	Channel string
	User    string
	Here    bool
	ByName  bool // the members of the channel are told by name
}

// ObserveOwn has f called with the members that this node has, and then with those that
// come and go, from one goroutine; nil is nobody. What comes and goes meanwhile may come
// as nothing, and a member that is here as one more.
func (t *Table) ObserveOwn(f func([]Own)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved = nil
	if f == nil {
		t.observeOwn = nil
		return
	}
	t.observeOwn = f
	now := time.Now()
	for _, r := range t.rooms {
		for user, m := range r.members {
			if m.here {
				t.moves(r, user, now)
			}
		}
	}
}

// moves notes that a member has come to this node, or has gone.
func (t *Table) moves(r *room, user string, now time.Time) {
	if t.observeOwn == nil {
		return
	}
	if t.moved == nil {
		t.moved = make(map[metaKey]struct{})
	}
	t.moved[metaKey{r.name, user}] = struct{}{}
	t.wake(now)
}

// takeMoved are the members that have come or gone.
func (t *Table) takeMoved() (list []Own) {
	for key := range t.moved {
		o := Own{Channel: key.channel, User: key.user}
		if r := t.rooms[key.channel]; r != nil {
			m := r.members[key.user]
			o.Here, o.ByName = m != nil && m.here, r.byName()
		}
		list = append(list, o)
	}
	t.moved = nil
	return list
}

// Knows reports whether members of another node are members still.
func (t *Table) Knows(node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers.all[node] != nil
}
