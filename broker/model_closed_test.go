package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/sse"
)

// The model's closed channels: which of them take nothing, and that a reader who has read
// a channel to its end is told so once, and when nothing else can come.

// modelClosed is how a channel was closed: until when, 0 for ever, in milliseconds.
type modelClosed struct {
	id    ID
	until uint64
}

// now is the time that the log decides by.
func (m *model) now() uint64 {
	return max(uint64(time.Now().Add(m.skew).UnixMilli()), m.b.Head().Ms)
}

// closedBy is the entry that closed a channel, zero if it is open.
func (m *model) closedBy(name string) ID {
	if c, ok := m.closed[name]; ok && (c.until == 0 || m.now() < c.until) {
		return c.id
	}
	return ID{}
}

// late reports whether an operation was refused as it must be, because its channel is
// closed.
func (m *model) late(name string, r *Result) bool {
	by := m.closedBy(name)
	if refused := errors.Is(r.Err, ErrChannelClosed); refused == by.IsZero() {
		m.t.Errorf("%s is closed by %s: %+v", name, by, r)
		return refused
	}
	if !by.IsZero() {
		m.ends.late++
	}
	return !by.IsZero()
}

// close closes a channel, with a last event or without, maybe after an event of the same
// batch, and sometimes one that is closed.
func (m *model) close() {
	name := one(m, modelChannels)
	op := Op{Kind: KindClose, Channel: name, Close: &CloseOp{}}
	var last modelEntry
	if op.Close.Event = m.rng.IntN(2) == 0; op.Close.Event {
		last = modelEntry{channel: name, typ: one(m, modelTypes)}
		op.Event = sse.Event{Type: last.typ, Data: []byte(strconv.Itoa(len(m.log)))}
	}
	by, was, closed := m.closedBy(name), m.standing(), 0
	for other := range m.closed {
		if !m.closedBy(other).IsZero() {
			closed++
		}
	}
	results, err := m.b.Publish(context.Background(), []Op{op})
	if m.refused("publish", err, was, false) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	r := &results[0]
	switch {
	case !by.IsZero() && op.Close.Event:
		m.late(name, r)
		return
	case !by.IsZero():
		if m.ends.again++; r.Err != nil || !r.Unchanged || r.ID != by {
			m.t.Errorf("%s is closed by %s, and again: %+v", name, by, r)
		}
		return
	case closed >= m.cfg.MaxChannels:
		if m.ends.full++; !errors.Is(r.Err, ErrTooManyClosed) {
			m.t.Errorf("%d channels are closed, and one more: %+v", closed, r)
		}
		return
	case r.Err != nil || r.Unchanged:
		m.t.Errorf("closing %s: %+v", name, r)
		return
	}
	m.ends.closed++
	c := modelClosed{id: r.ID}
	if lasts := closedFor(m.cfg.historyOf(name)); lasts > 0 {
		c.until = r.ID.Ms + uint64(lasts/time.Millisecond)
	}
	m.closed[name] = c
	if op.Close.Event {
		m.admitted(was, []Op{op})
		if last.id = r.ID; m.cfg.historyOf(name).Events == 0 {
			m.live[r.ID] = true
		}
		m.log = append(m.log, last)
	}
}

// opened notes that a channel was purged.
func (m *model) opened(name string) {
	if !m.closedBy(name).IsZero() {
		m.ends.purged++
	}
	delete(m.closed, name)
}

// over forgets what is open by its time, when the broker has done so, too.
func (m *model) over() {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for name, c := range m.closed {
		known := m.b.closedNow.byName[name]
		switch is := known != nil && known.id == c.id; {
		case is && known.until != c.until:
			m.t.Errorf("%s is closed until %d, want %d", name, known.until, c.until)
		case is:
		case m.closedBy(name).IsZero():
			m.ends.over++
			delete(m.closed, name)
		case m.near(c):
		default:
			m.t.Errorf("%s is closed by %s, and the broker does not know it", name, c.id)
		}
	}
	for name, c := range m.b.closedNow.byName {
		if _, ok := m.closed[name]; !ok {
			m.t.Errorf("%s is open, and was closed by %s for the broker", name, c.id)
		}
	}
}

// near reports whether a channel is open by the broker's clock, or nearly so: that of the
// log differs from it.
func (m *model) near(c modelClosed) bool {
	return c.until > 0 && uint64(time.Now().UnixMilli())+4000 >= c.until
}

// ended checks what a reader who has read everything is told of closed channels.
func (m *model) ended(r *modelReader, batch *Batch) {
	all, near := true, false
	for _, name := range r.names {
		c, closed := m.closed[name]
		all, near = all && closed, near || closed && m.near(c)
		if closed && r.ends[name] != c.id && !m.near(c) {
			m.t.Errorf("%s %v was not told that %s was closed by %s", r.id, r.names, name, c.id)
		}
	}
	if batch.End != all && !near {
		m.t.Errorf("%s %v: the end is %v, and all of it is closed: %v", r.id, r.names, batch.End, all)
	}
	if batch.End {
		m.ends.ended++
	}
}

// tellEnds checks what a batch says of closed channels.
func (m *model) tellEnds(r *modelReader, batch *Batch) {
	if len(batch.Closed) == 0 && !batch.End {
		return
	}
	if batch.Events > 0 || batch.More {
		m.t.Errorf("%s was told of the end of %v beside %d events, with more to come: %v", r.id, batch.Closed, batch.Events, batch.More)
	}
	for _, c := range batch.Closed {
		m.ends.told++
		if known, ok := m.closed[c.Channel]; !ok || known.id != c.ID || r.ends[c.Channel] == c.ID || !slices.Contains(r.names, c.Channel) {
			m.t.Errorf("%s %v was told that %s was closed by %s, which it was by %v; told before: %s", r.id, r.names, c.Channel, c.ID, known, r.ends[c.Channel])
		}
		r.ends[c.Channel] = c.ID
	}
}

// forgetEnds forgets what a reader was told of names that it does not read any more.
func (r *modelReader) forgetEnds() {
	for name := range r.ends {
		if !slices.Contains(r.names, name) || channel.IsPattern(name) {
			delete(r.ends, name)
		}
	}
}
