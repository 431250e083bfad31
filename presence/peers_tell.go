package presence

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// messages are what the other nodes are to be told now: what has changed, or everything.
func (t *Table) messages(ask []string) [][]byte {
	p := &t.peers
	w := writer{table: t, room: t.config.MaxNotice - 8<<10}
	w.message.Ask, w.message.All = ask, p.askAll
	if whole := p.whole; whole {
		w.message.First = true
		for _, r := range t.rooms {
			w.add(r, true)
		}
		w.message.Last = true
	} else {
		for r := range p.out {
			w.add(r, false)
		}
	}
	for _, m := range p.metas {
		w.size += len(m.Channel) + len(m.User) + len(m.Meta) + 100
		w.message.Metas = append(w.message.Metas, m)
		w.flushIfFull()
	}
	w.flush()
	sent := slices.Collect(maps.Keys(p.out))
	p.whole, p.askAll = false, false
	clear(p.out)
	clear(p.metas)
	for _, r := range sent {
		t.sweep(r)
	}
	return w.list
}

// writer splits what is to be told into messages.
type writer struct {
	table   *Table
	room    int // bytes for each message
	list    [][]byte
	message message
	size    int
}

// add adds the changes of a room, or all of it.
func (w *writer) add(r *room, all bool) {
	rm := roomMessage{Channel: r.name}
	w.size += len(r.name) + 50
	if n := r.unnamed + r.unnamedHeld; all && n > 0 || r.outUnnamed {
		rm.Unnamed = &n
		r.outUnnamed = false
	}
	names := r.out
	named := r.byName()
	if all || named && r.nameless {
		names = make(map[string]struct{}, len(r.members))
		for user, m := range r.members {
			if m.here {
				names[user] = struct{}{}
			}
		}
		if !all {
			for user := range r.out {
				names[user] = struct{}{}
			}
		}
	}
	r.out, r.nameless = nil, !named
	for user := range names {
		rw := rowMessage{User: user, Gone: true}
		if m := r.members[user]; m != nil && m.here {
			rw = rowMessage{User: user, Sessions: m.own.sessions, Since: m.own.since}
			if named {
				rw.Meta, rw.MetaAt = m.own.meta, m.own.metaAt
			}
		}
		rm.Rows = append(rm.Rows, rw)
		// Each byte of a name may become six: it may be a control character.
		if w.size += 6*len(user) + len(rw.Meta) + 80; w.size > w.room {
			w.message.Rooms = append(w.message.Rooms, rm)
			w.flush()
			rm = roomMessage{Channel: r.name}
			w.size += len(r.name) + 50
		}
	}
	if rm.Unnamed != nil || len(rm.Rows) > 0 {
		w.message.Rooms = append(w.message.Rooms, rm)
		w.flushIfFull()
	}
}

func (w *writer) flushIfFull() {
	if w.size > w.room {
		w.flush()
	}
}

// flush ends a message. There is always another one, the last may be empty.
func (w *writer) flush() {
	p := &w.table.peers
	p.seq++
	w.message.Node, w.message.Seq = w.table.config.Node, p.seq
	slices.SortFunc(w.message.Rooms, func(a, b roomMessage) int { return cmp.Compare(a.Channel, b.Channel) })
	text, _ := jsonvalue.Marshal(&w.message) // it has no error: metadata was checked
	w.list = append(w.list, text)
	w.message, w.size = message{}, 0
}

// tell tells the other nodes messages. If it fails, they are told everything.
func (t *Table) tell(messages [][]byte) {
	var err error
	for _, text := range messages {
		ctx, cancel := context.WithTimeout(t.ctx, tellWithin)
		err = t.config.Tell(ctx, text)
		cancel()
		if err != nil {
			break
		}
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.peers
	p.telling = false
	if err != nil {
		p.whole, p.askAll = true, true
		t.setOutAt(now)
	} else if p.whole || p.askAll || !p.outAt.IsZero() {
		t.wake(now)
	}
	if failing := err != nil; failing != p.failing && t.ctx.Err() == nil {
		p.failing = failing
		if failing {
			t.config.Logger.Warn("telling other nodes who is present fails: trying again until it succeeds", slog.Any("error", err))
		} else {
			t.config.Logger.Info("telling other nodes who is present succeeds again")
		}
	}
}

// sayGoodbye tells the other nodes how long the members of this one are members still.
// The loop has ended.
func (t *Table) sayGoodbye(ctx context.Context) {
	t.mu.Lock()
	p := &t.peers
	if t.config.Node == "" || !t.Active() || p.seq == 0 {
		t.mu.Unlock()
		return
	}
	for _, r := range t.rooms {
		t.longest = max(t.longest, r.policy.Grace)
		// Sessions without a user are not held: where they come back to they count anew.
		if r.unnamed+r.unnamedHeld > 0 || r.outUnnamed {
			r.unnamed, r.unnamedHeld, r.outUnnamed = 0, 0, true
			p.out[r] = struct{}{}
		}
	}
	p.whole, p.askAll = false, false
	messages := t.messages(nil)
	p.seq++
	bye := message{Node: t.config.Node, Seq: p.seq, Bye: max(1, t.longest.Milliseconds())}
	t.mu.Unlock()
	text, _ := jsonvalue.Marshal(&bye)
	for _, m := range append(messages, text) {
		if t.config.Tell(ctx, m) != nil {
			return // they notice that this node is gone
		}
	}
}
