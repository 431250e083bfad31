package broker

import "github.com/evstream/caddy-evstream/channel"

// Observer is told what happens in a broker. Its methods must return at once, and
// must not call the broker: some are called with its locks held.
type Observer interface {
	// ChannelReaders says how many readers a channel has on this node, whenever that
	// has become 0 or 1. Readers of a pattern do not count.
	ChannelReaders(name string, readers int)
	// StateChanged says that this node has changed a value: each change is told by
	// one node, the one that wrote it to the log. Changes of one channel that are
	// made at the same time may be told out of order.
	StateChanged(StateChange)
}

// StateChange is a change of a channel's value.
type StateChange struct {
	Channel string
	ID      ID     // of the entry, which is the version of the value
	Value   []byte // JSON text; nil if the value was removed. It must not be modified
}

// Observe sets who is told what happens in the broker; nil is nobody. It is told at once
// of the channels that have readers, with 1 for any number.
func (b *Broker) Observe(o Observer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == nil {
		b.observer.Store(nil)
		return
	}
	b.observer.Store(&o)
	for name, f := range b.feeds {
		if len(f.readers) > 0 && !channel.IsBeneath(name) {
			o.ChannelReaders(name, 1)
		}
	}
}

// observeReaders tells the observer that the number of a channel's readers has
// changed. Broker.mu is held.
func (b *Broker) observeReaders(f *feed) {
	o := b.observer.Load()
	if o == nil || len(f.readers) > 1 || f.pattern != nil || f.of != nil || channel.IsBeneath(f.name) {
		return
	}
	(*o).ChannelReaders(f.name, len(f.readers))
}

// observeStates tells the observer what operations have changed.
func (b *Broker) observeStates(ops []Op, results []Result) {
	o := b.observer.Load()
	if o == nil {
		return
	}
	for i := range ops {
		op, r := &ops[i], &results[i]
		if op.Kind != KindState || isFact(op.Channel) || r.Err != nil || r.Unchanged || r.Repeated || op.State.If.Kind == IfNever {
			continue
		}
		if op.State.Value == nil && op.State.Binding() != "" && !b.removedBy(op.Channel, r.ID) {
			continue
		}
		(*o).StateChanged(StateChange{Channel: op.Channel, ID: r.ID, Value: op.State.Value})
	}
}

// removedBy reports whether the entry with that id has removed a channel's value, and
// not only unbound it from a session. It is false, too, if the channel was written
// again since: that write is told.
func (b *Broker) removedBy(name string, id ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.states.byName[name]
	if c == nil {
		return true // removed so long ago that it was forgotten
	}
	v := c.cur.Load()
	return v.id == id && v.value == nil
}
