package presence

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// EventType is the type of the events that tell who is in a channel.
const EventType = "evstream.presence"

const (
	tellEvery  = time.Second            // a room's watchers are told at most so often
	countEvery = 5 * time.Second        // and so often if they are told the count only
	tick       = 100 * time.Millisecond // rooms whose time comes within one are told together
)

// watcher is a session that is told who comes and goes in a room.
type watcher struct {
	sink   Sink
	begun  bool // it has a snapshot, or is about to get one
	behind bool // it had no room for an event, and needs a snapshot. Only the loop uses it
}

// arrival is a watcher that has been told nothing yet.
type arrival struct {
	room    *room
	session *Session
	watcher *watcher
}

// told is a member as watchers are told of it.
type told struct {
	User  string          `json:"user"`
	Since time.Time       `json:"since"`
	Meta  json.RawMessage `json:"meta,omitempty"`
}

// left is a member that has left, as watchers are told of it.
type left struct {
	User string `json:"user"`
}

// The data of an event: a snapshot, what has changed since the last event, or the
// count only.
type (
	snapshotData struct {
		Channel string  `json:"channel"`
		Members []*told `json:"members"`
		Count   int     `json:"count"`
		Unnamed int     `json:"anonymous,omitempty"`
	}
	changeData struct {
		Channel string  `json:"channel"`
		Joined  []*told `json:"joined"`
		Left    []left  `json:"left"`
		Updated []*told `json:"updated,omitempty"`
		Count   int     `json:"count"`
		Unnamed int     `json:"anonymous,omitempty"`
	}
	countData struct {
		Channel string `json:"channel"`
		Count   int    `json:"count"`
		Unnamed int    `json:"anonymous,omitempty"`
	}
)

// event encodes an event.
func event(data any) []byte {
	text, _ := jsonvalue.Marshal(data) // it has no error: names are strings, and metadata was checked
	return sse.AppendEvent(nil, &sse.Event{Type: EventType, Data: text})
}

// view is a member as all nodes together have it.
func (m *member) view(user string) *told {
	v, at := &told{User: user}, int64(-1)
	var since int64
	add := func(r *row) {
		if since == 0 || r.since < since {
			since = r.since
		}
		if r.metaAt > at || r.metaAt == at && bytes.Compare(r.meta, v.Meta) > 0 {
			v.Meta, at = r.meta, r.metaAt
		}
	}
	if m.here {
		add(&m.own)
	}
	for _, other := range m.others {
		add(other)
	}
	v.Since = time.UnixMilli(since).UTC()
	return v
}

// sessions is how many sessions the member has.
func (m *member) sessions() int {
	n := m.own.sessions
	for _, other := range m.others {
		n += other.sessions
	}
	return n
}

// setDue has the watchers of a room told of what has changed, when they may be.
func (t *Table) setDue(r *room, now time.Time) {
	if !t.tracks(r) {
		r.forget()
		return
	}
	if _, ok := t.due[r]; ok {
		return
	}
	t.due[r] = struct{}{}
	at := now
	if r.next.After(at) {
		at = r.next
	}
	at = at.Truncate(tick).Add(tick)
	if t.dueAt.IsZero() || at.Before(t.dueAt) {
		t.dueAt = at
		if at.Before(t.armed) {
			t.wake(now)
		}
	}
}

// delivery is an event for some watchers.
type delivery struct {
	room  *room
	block []byte
	to    []*watcher
}

// deliveries are what watchers are to be told now, and what the observer is.
func (t *Table) deliveries(now time.Time) (list []delivery, changes []Change) {
	if !t.dueAt.IsZero() && !t.dueAt.After(now) {
		t.dueAt = time.Time{}
		for r := range t.due {
			if r.next.After(now) {
				at := r.next.Truncate(tick).Add(tick)
				if t.dueAt.IsZero() || at.Before(t.dueAt) {
					t.dueAt = at
				}
				continue
			}
			delete(t.due, r)
			list, changes = t.deliver(r, now, list, changes)
			t.sweep(r)
		}
	}
	for _, a := range t.arrivals {
		if a.room.watchers[a.session] != a.watcher || a.watcher.begun || t.rooms[a.room.name] != a.room {
			continue
		}
		a.watcher.begun = true
		if !a.room.fresh {
			a.room.refresh(t.observe.Load() != nil, &changes)
			a.room.next = now.Add(tellEvery)
		}
		list = append(list, delivery{a.room, a.room.current(), []*watcher{a.watcher}})
	}
	t.arrivals = nil
	return list, changes
}

// refresh makes what the watchers are told what is. If they were told nothing before,
// all members are changes to an observer.
func (r *room) refresh(observed bool, changes *[]Change) {
	began := !r.fresh
	r.fresh, r.count, r.snapshot, r.told = true, r.size(), nil, nil
	clear(r.dirty)
	if !r.byName() {
		return
	}
	r.told = make(map[string]*told, len(r.members))
	for user, m := range r.members {
		r.told[user] = m.view(user)
	}
	if observed && began {
		for _, m := range sorted(r.told) {
			*changes = append(*changes, Change{r.name, m.User, true, r.count.all(), m.Meta})
		}
	}
}

// forget is for a room without watchers: the next one is told everything.
func (r *room) forget() {
	r.told, r.snapshot, r.fresh = nil, nil, false
	clear(r.dirty)
}

// current encodes what the watchers have been told, for one that comes to them.
func (r *room) current() []byte {
	if r.snapshot != nil {
		return r.snapshot
	}
	if r.told == nil {
		r.snapshot = event(countData{r.name, r.count.all(), r.count.unnamed})
	} else {
		r.snapshot = event(snapshotData{r.name, sorted(r.told), r.count.all(), r.count.unnamed})
	}
	return r.snapshot
}

// sorted returns members by their names; an empty list is not nil.
func sorted(members map[string]*told) []*told {
	list := slices.AppendSeq(make([]*told, 0, len(members)), maps.Values(members))
	slices.SortFunc(list, func(a, b *told) int { return strings.Compare(a.User, b.User) })
	return list
}

// deliver tells a room's watchers what has changed.
func (t *Table) deliver(r *room, now time.Time, list []delivery, changes []Change) ([]delivery, []Change) {
	if !t.tracks(r) {
		r.forget()
		return list, changes
	}
	var up, behind []*watcher
	for _, w := range r.watchers {
		switch {
		case !w.begun: // it gets a snapshot
		case w.behind:
			w.behind = false
			behind = append(behind, w)
		default:
			up = append(up, w)
		}
	}
	block := r.change(t.observe.Load() != nil, &changes)
	if block != nil {
		r.next = now.Add(tellEvery)
		if r.told == nil {
			r.next = now.Add(countEvery)
		}
		if len(up) > 0 {
			list = append(list, delivery{r, block, up})
		}
	}
	if len(behind) > 0 {
		r.next = now.Add(tellEvery)
		list = append(list, delivery{r, r.current(), behind})
	}
	return list, changes
}

// change brings what the watchers are told up to date, and encodes what has changed;
// nil if nothing has.
func (r *room) change(observed bool, changes *[]Change) []byte {
	was := r.count
	if !r.fresh || r.byName() != (r.told != nil) {
		r.refresh(observed, changes)
		return r.current()
	}
	r.count = r.size()
	if r.told == nil {
		clear(r.dirty)
		if r.count == was {
			return nil
		}
		r.snapshot = nil
		return r.current()
	}
	d := changeData{Channel: r.name, Joined: []*told{}, Left: []left{}, Count: r.count.all(), Unnamed: r.count.unnamed}
	for user := range r.dirty {
		before, m := r.told[user], r.members[user]
		switch {
		case m == nil && before != nil:
			delete(r.told, user)
			d.Left = append(d.Left, left{user})
			if observed {
				*changes = append(*changes, Change{r.name, user, false, r.count.all(), before.Meta})
			}
		case m != nil:
			view := m.view(user)
			r.told[user] = view
			if before == nil {
				d.Joined = append(d.Joined, view)
				if observed {
					*changes = append(*changes, Change{r.name, user, true, r.count.all(), view.Meta})
				}
			} else if !bytes.Equal(before.Meta, view.Meta) {
				d.Updated = append(d.Updated, view)
			}
		}
	}
	clear(r.dirty)
	if len(d.Joined)+len(d.Left)+len(d.Updated) == 0 && r.count == was {
		return nil
	}
	byUser := func(a, b *told) int { return strings.Compare(a.User, b.User) }
	slices.SortFunc(d.Joined, byUser)
	slices.SortFunc(d.Updated, byUser)
	slices.SortFunc(d.Left, func(a, b left) int { return strings.Compare(a.User, b.User) })
	r.snapshot = nil
	return event(d)
}

// send offers what was encoded to the watchers. Those without room for it get a
// snapshot later.
func (t *Table) send(list []delivery) {
	for _, d := range list {
		missed := false
		for _, w := range d.to {
			if !w.sink.OfferBlock(d.block) {
				w.behind, missed = true, true
			}
		}
		if missed {
			t.mu.Lock()
			if t.rooms[d.room.name] == d.room {
				t.setDue(d.room, time.Now())
			}
			t.mu.Unlock()
		}
	}
}

// wake has the loop look at what there is to do.
func (t *Table) wake(now time.Time) {
	t.armed = now // until the loop has set it
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// idle is how long the loop waits for nothing.
const idle = time.Hour

// loop does what is to be done at a time, until the table is closed.
func (t *Table) loop() {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.kick:
		case <-timer.C:
		}
		timer.Reset(time.Until(t.step(time.Now())))
	}
}

// step does what is to be done now, and returns when there is something next.
func (t *Table) step(now time.Time) time.Time {
	var living []string
	shared, known := t.config.Node != "" && t.Active(), false
	if shared {
		shared = t.config.Ready()
		living, known = t.config.Members()
	}
	t.mu.Lock()
	t.endHolds(now)
	if known {
		t.removeDead(living, now)
	}
	if shared {
		t.stepPeers(now)
	}
	list, changes := t.deliveries(now)
	own, moved := t.observeOwn, t.takeMoved()
	next := now.Add(idle)
	earlier := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	earlier(t.dueAt)
	if len(t.holds) > 0 {
		earlier(t.holds[0].at)
	}
	if t.config.Node != "" && t.Active() {
		earlier(t.peers.next(now))
	}
	t.armed = next
	t.mu.Unlock()
	if len(moved) > 0 {
		own(moved)
	}
	t.send(list)
	if f := t.observe.Load(); f != nil && len(changes) > 0 {
		(*f)(changes)
	}
	return next
}
