package broker

import (
	"github.com/evstream/caddy-evstream/channel"
)

// What becomes of closed channels at a node, and what their readers are told. It is
// under Broker.mu, but for setClosing and the methods of Subscription.

// Closed is a channel that a reader has read to its end.
type Closed struct {
	Channel string
	ID      ID // of the entry that closed it
}

// setClosing sets in ops what closed channels are bound to.
func (b *Broker) setClosing(ops []Op) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range ops {
		if op := &ops[i]; op.Kind == KindClose {
			op.Close.For, op.Close.Count = closedFor(b.policyOf(op.Channel)), b.cfg.MaxChannels
		}
	}
}

// applyClose publishes the last event of a channel, if there is one, and closes it.
func (b *Broker) applyClose(e *Entry) {
	if e.Close.Event {
		b.applyEvent(e)
	}
	b.setClosed(newClosed(e.Channel, e.ID, e.Close.For), e.Owner)
}

// setClosed closes a channel, unless a newer entry did so already: a log that starts says
// what is closed, and may repeat entries.
func (b *Broker) setClosed(c *closedChannel, id Owner) {
	if old := b.closedNow.byName[c.name]; old != nil {
		if !c.id.After(old.id) {
			return
		}
		b.reopen(c.name)
	}
	b.closedNow.add(c)
	if c.owner = b.owners.get(id); c.owner != nil {
		c.owner.closed++
	}
	if f := b.feeds[c.name]; f != nil {
		for _, p := range f.readers {
			p.setClosed(c.id)
		}
		b.touch(f)
	}
}

// reopen opens a channel, if it is closed.
func (b *Broker) reopen(name string) {
	c := b.closedNow.remove(name)
	if c == nil {
		return
	}
	if c.owner != nil {
		c.owner.closed--
		b.owners.release(c.owner)
	}
	if f := b.feeds[name]; f != nil {
		for _, p := range f.readers {
			p.setClosed(ID{})
		}
	}
}

// reopenOver opens the channels that are not closed any more by their time.
func (b *Broker) reopenOver(now uint64) {
	for c := b.closedNow.over(now); c != nil; c = b.closedNow.over(now) {
		b.reopen(c.name)
	}
}

// reopenFor opens the channel of an entry that the log has taken because it was not
// closed any more.
func (b *Broker) reopenFor(e *Entry) {
	if c := b.closedNow.byName[e.Channel]; c != nil && c.until > 0 && e.ID.Ms >= c.until {
		b.reopen(c.name)
	}
}

// loadClosed makes what is closed that which the log says when it starts.
func (b *Broker) loadClosed(o Origin) {
	still := make(map[string]ID, len(o.Closed))
	for i := range o.Closed {
		still[o.Closed[i].Channel] = o.Closed[i].ID
	}
	for name, c := range b.closedNow.byName {
		if still[name] != c.id {
			b.reopen(name)
		}
	}
	for i := range o.Closed {
		e := &o.Closed[i]
		b.setClosed(newClosed(e.Channel, e.ID, e.Close.For), e.Owner)
	}
}

// markClosed tells the new positions of a reader which of them are closed.
func (b *Broker) markClosed(fresh []*position, now uint64) {
	if len(b.closedNow.byName) == 0 {
		return
	}
	for _, p := range fresh {
		if c := b.closedNow.of(p.feed.name, now); c != nil && p.feed.pattern == nil {
			p.setClosed(c.id)
		}
	}
}

// setClosed says that the channel of p was closed by an entry, zero that it is open.
func (p *position) setClosed(id ID) {
	s := p.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.closed = nil; !id.IsZero() {
		p.closed = &ending{id: id}
	}
	s.closing = s.closing || !id.IsZero()
}

// tellClosed adds to a batch which channels the reader, which has read all up to head,
// has now read to their end, or that there is nothing else to come. A batch with events
// has neither: the next one does. Subscription.mu is held.
func (s *Subscription) tellClosed(batch *Batch, head ID) {
	end := true
	var told []*position
	s.closing = false
	for _, p := range s.positions {
		if p.feed.of != nil || channel.IsBeneath(p.feed.name) {
			continue // they serve names that have a position of their own
		}
		s.closing = s.closing || p.closed != nil
		switch {
		case p.closed == nil || p.closed.id.After(head):
			end = false
		case !p.closed.told:
			told = append(told, p)
		}
	}
	switch {
	case !s.closing, len(told) == 0 && !end:
	case batch.Events > 0:
		batch.More = true
	case end:
		batch.End = true
		fallthrough
	default:
		for _, p := range told {
			p.closed.told = true
			batch.Closed = append(batch.Closed, Closed{p.feed.name, p.closed.id})
		}
	}
}
