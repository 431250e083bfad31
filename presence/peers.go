package presence

import (
	"encoding/json"
	"slices"
	"time"
)

// What nodes tell each other. Each tells all others what has changed among its own
// members, at most twice a second and together for all channels: the traffic is
// bounded by what changes, and coalesces in time. Its messages are numbered. A node
// that has missed one, or is new, asks, and gets everything. A message without content
// every ten seconds shows to all that they have missed none.
//
// The messages of a node that is dead have no successor: its members leave when the
// nodes that live are known, and it is none of them.

const (
	shareEvery = 500 * time.Millisecond // a node tells the others at most so often
	beatEvery  = 10 * time.Second       // and at least so often
	askEvery   = 2 * time.Second        // it asks another node for everything at most so often
	checkEvery = time.Second            // it looks so often for nodes that are dead
	newPeer    = 3 * time.Second        // so long after a message its node need not be known to live
	tellWithin = 5 * time.Second        // a message is given up
)

// message is what a node tells the others.
type message struct {
	Node string `json:"node"`
	Seq  uint64 `json:"seq"` // 1, 2, 3, …

	First bool `json:"first,omitempty"` // everything follows, with this message
	Last  bool `json:"last,omitempty"`  // that was everything

	Rooms []roomMessage `json:"rooms,omitempty"`
	Metas []metaMessage `json:"metas,omitempty"`
	Ask   []string      `json:"ask,omitempty"` // nodes that are to tell everything
	All   bool          `json:"all,omitempty"` // all nodes are
	// Bye is when the node is to be forgotten with all its members, in milliseconds
	// from now: it leaves, and its clients come back to others.
	Bye int64 `json:"bye,omitempty"`
}

type roomMessage struct {
	Channel string       `json:"ch"`
	Unnamed *int         `json:"anon,omitempty"` // if it has changed
	Rows    []rowMessage `json:"rows,omitempty"`
}

type rowMessage struct {
	User     string          `json:"u"`
	Gone     bool            `json:"x,omitempty"`
	Sessions int             `json:"n,omitempty"`
	Since    int64           `json:"t,omitempty"`
	Meta     json.RawMessage `json:"m,omitempty"`
	MetaAt   int64           `json:"a,omitempty"`
}

// metaMessage is metadata for a member, wherever it has sessions.
type metaMessage struct {
	Channel string          `json:"ch"`
	User    string          `json:"u"`
	Meta    json.RawMessage `json:"m"`
	MetaAt  int64           `json:"a"`
}

type metaKey struct{ channel, user string }

// peers is what a table knows of other nodes, and what they are to be told.
// Table.mu guards it.
type peers struct {
	all map[string]*peer

	seq      uint64             // of the last message of this node
	out      map[*room]struct{} // have changed since the last message
	metas    map[metaKey]metaMessage
	outAt    time.Time // when the next message may be sent; zero if there is nothing to tell
	sent     time.Time // when the last one was
	whole    bool      // everything is to be told
	askAll   bool
	telling  bool
	failing  bool
	received uint64 // messages of other nodes, and their bytes, for tests and benchmarks
	bytes    uint64
}

// peer is another node.
type peer struct {
	name    string
	seq     uint64 // of its last message
	synced  bool   // all was heard that it has told
	filling bool   // it is telling everything
	round   uint64 // of telling everything: rows of an earlier one are gone
	heard   time.Time
	asked   time.Time
	leaves  time.Time // when it is to be forgotten; zero: when it is dead
	rooms   map[*room]struct{}
}

func (p *peers) init() {
	p.all = make(map[string]*peer)
	p.out = make(map[*room]struct{})
	p.metas = make(map[metaKey]metaMessage)
}

// startOver has all nodes told everything, and asked for everything.
func (p *peers) startOver() {
	for _, other := range p.all {
		other.synced, other.filling = false, false
	}
	p.whole, p.askAll = true, true
}

// forget forgets the other nodes. No channel has presence.
func (p *peers) forget() {
	clear(p.all)
	clear(p.out)
	clear(p.metas)
	p.outAt, p.whole, p.askAll = time.Time{}, false, false
}

func (p *peers) dropRoom(r *room) {
	delete(p.out, r)
	for _, other := range p.all {
		delete(other.rooms, r)
	}
}

// next is when there is something to do.
func (p *peers) next(now time.Time) time.Time {
	next := now.Add(checkEvery)
	if !p.telling && p.outAt.After(now) && p.outAt.Before(next) {
		next = p.outAt
	}
	return next
}

// setOut notes that a room has changed on this node.
func (t *Table) setOut(r *room, now time.Time) {
	t.peers.out[r] = struct{}{}
	t.setOutAt(now)
}

func (t *Table) setOutAt(now time.Time) {
	p := &t.peers
	if p.outAt.IsZero() {
		p.outAt = now
		if next := p.sent.Add(shareEvery); next.After(now) {
			p.outAt = next
		}
		if p.outAt.Before(t.armed) {
			t.wake(now)
		}
	}
}

// stepPeers does what is to be done about other nodes.
func (t *Table) stepPeers(now time.Time) {
	p := &t.peers
	ask := t.toAsk(now)
	due := !p.outAt.IsZero() && !p.outAt.After(now) || p.whole || p.askAll || len(ask) > 0 || now.Sub(p.sent) >= beatEvery
	if p.telling || !due || now.Sub(p.sent) < shareEvery {
		if due && !p.telling {
			p.outAt = p.sent.Add(shareEvery)
		}
		return
	}
	for _, name := range ask {
		p.all[name].asked = now
	}
	messages := t.messages(ask)
	p.telling, p.sent, p.outAt = true, now, time.Time{}
	t.run.Go(func() { t.tell(messages) })
}

// toAsk are the nodes of which not everything is known.
func (t *Table) toAsk(now time.Time) (names []string) {
	for name, other := range t.peers.all {
		if !other.synced && !other.filling && now.Sub(other.asked) >= askEvery {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// removeDead removes the nodes that do not live any more.
func (t *Table) removeDead(living []string, now time.Time) {
	for name, other := range t.peers.all {
		switch {
		case !other.leaves.IsZero():
			if now.Before(other.leaves) {
				continue
			}
		case slices.Contains(living, name) || now.Sub(other.heard) < newPeer:
			continue
		}
		other.round++
		t.purge(other, now)
		delete(t.peers.all, name)
	}
}

// purge removes the rows of a node that are of an earlier round.
func (t *Table) purge(other *peer, now time.Time) {
	for r := range other.rooms {
		left := false
		for user, m := range r.members {
			if row := m.others[other]; row != nil {
				if row.round == other.round {
					left = true
					continue
				}
				t.removeRow(r, user, m, other, now)
			}
		}
		if n, ok := r.elsewhere[other]; ok {
			if n.round == other.round {
				left = true
			} else {
				delete(r.elsewhere, other)
				t.setDue(r, now)
			}
		}
		if !left {
			delete(other.rooms, r)
			t.sweep(r)
		}
	}
}

func (t *Table) removeRow(r *room, user string, m *member, other *peer, now time.Time) {
	delete(m.others, other)
	if !m.here && len(m.others) == 0 {
		delete(r.members, user)
	}
	t.changed(r, user, now)
}

// Hear takes in what a node has told.
func (t *Table) Hear(data []byte) {
	if !t.Active() || t.config.Node == "" {
		return
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil || m.Node == "" {
		return // of a version to come
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Node == t.config.Node || t.closed {
		return
	}
	p := &t.peers
	p.received++
	p.bytes += uint64(len(data))
	if m.All || slices.Contains(m.Ask, t.config.Node) {
		p.whole = true
		t.setOutAt(now)
	}
	for i := range m.Metas {
		t.hearMeta(&m.Metas[i], now)
	}
	other := p.all[m.Node]
	if other == nil {
		other = &peer{name: m.Node, synced: m.Seq == 1, rooms: make(map[*room]struct{})}
		p.all[m.Node] = other
	} else if m.Seq <= other.seq && (other.synced || other.filling) {
		return // it was told twice
	}
	if m.Bye > 0 {
		other.leaves = now.Add(time.Duration(min(m.Bye, time.Hour.Milliseconds())) * time.Millisecond)
	}
	follows := m.Seq == other.seq+1
	other.seq, other.heard = m.Seq, now
	switch {
	case m.First:
		other.round++
		other.synced, other.filling = false, true
	case !follows || !other.synced && !other.filling:
		other.synced, other.filling = false, false
		t.setOutAt(now) // asks it
		return
	}
	for i := range m.Rooms {
		t.hearRoom(other, &m.Rooms[i], now)
	}
	if m.Last && other.filling {
		other.synced, other.filling = true, false
		t.purge(other, now)
	}
}

// hearRoom takes in what a node has told about a channel.
func (t *Table) hearRoom(other *peer, rm *roomMessage, now time.Time) {
	p := t.rules.Load().policy(rm.Channel)
	if p == nil {
		return // the nodes have different configurations
	}
	r := t.room(rm.Channel, p)
	other.rooms[r] = struct{}{}
	if rm.Unnamed != nil {
		if *rm.Unnamed > 0 {
			if r.elsewhere == nil {
				r.elsewhere = make(map[*peer]*unnamedRow)
			}
			r.elsewhere[other] = &unnamedRow{*rm.Unnamed, other.round}
		} else {
			delete(r.elsewhere, other)
		}
		t.setDue(r, now)
	}
	for _, rw := range rm.Rows {
		m := r.members[rw.User]
		if rw.Gone {
			if m != nil && m.others[other] != nil {
				t.removeRow(r, rw.User, m, other, now)
			}
			continue
		}
		if m == nil {
			m = new(member)
			r.members[rw.User] = m
		}
		if m.others == nil {
			m.others = make(map[*peer]*row)
		}
		m.others[other] = &row{rw.Sessions, rw.Since, rw.Meta, rw.MetaAt, other.round}
		t.changed(r, rw.User, now)
	}
	t.sweep(r)
}

// Reset says that the log may have lost what nodes have told.
func (t *Table) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Active() && t.config.Node != "" && !t.closed {
		t.peers.startOver()
		t.setOutAt(time.Now())
	}
}
