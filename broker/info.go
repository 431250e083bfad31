package broker

import (
	"github.com/evstream/caddy-evstream/channel"
)

// ChannelInfo describes a channel that is in memory, has a value, or is closed.
type ChannelInfo struct {
	Name        string
	Subscribers int // those that read it by name, not through a pattern
	// Appended is how many events it has got since it is in memory.
	Appended uint64
	Events   int // kept
	Bytes    int // memory of its history
	// Oldest and Newest are the first and the last kept event; zero if there is
	// none.
	Oldest, Newest ID
	// State is the version of the channel's value; zero if it has none.
	State ID
	// Closed is the entry that closed the channel; zero if it is not closed.
	Closed ID
}

// Channel describes one channel. It is false if the channel is not in memory, has no
// value, and is not closed.
func (b *Broker) Channel(name string) (ChannelInfo, bool) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channel(name, now)
}

func (b *Broker) channel(name string, now uint64) (info ChannelInfo, ok bool) {
	info.Name = name
	if f := b.feeds[name]; f != nil && !channel.IsBeneath(name) {
		f.expire(now)
		info, ok = f.info(), true
	}
	if c := b.states.cell(name); c != nil {
		info.State, ok = c.cur.Load().id, true
	}
	if c := b.closedNow.of(name, now); c != nil {
		info.Closed, ok = c.id, true
	}
	return info, ok
}

// listStep is how many channels a list describes while publishing waits.
const listStep = 128

// Channels describes the channels whose names begin with prefix and sort after the
// name after: the first ones, up to limit, in the order of their names. more says
// that there are others. It costs as much as it lists, however many channels there are.
func (b *Broker) Channels(prefix, after string, limit int) (list []ChannelInfo, more bool) {
	now := b.now()
	for {
		n := min(listStep, limit-len(list))
		next, found := b.channelsAfter(prefix, after, n, now)
		list = append(list, next...)
		switch {
		case !found:
			return list, false
		case n < listStep || len(list) == limit:
			return list, true
		}
		after = next[n-1].Name
	}
}

// channelsAfter is one step of Channels.
func (b *Broker) channelsAfter(prefix, after string, limit int, now uint64) (list []ChannelInfo, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := mergeNames(&b.names, &b.states.names, prefix, after, limit+1)
	if len(names) > limit {
		names, more = names[:limit], true
	}
	for _, name := range names {
		info, _ := b.channel(name, now)
		list = append(list, info)
	}
	return list, more
}

// Stats are the numbers of a broker: totals since it was started, and what it holds.
type Stats struct {
	Published, Delivered, Gaps uint64
	// Skipped counts entries of a kind or version that this broker does not know.
	Skipped                                  uint64
	Subscriptions, Channels, Patterns, Bytes int
	// StateWrites counts writes that changed a value; StateRefused those that the
	// log refused, mostly because a condition did not hold; StateRetried those of
	// them that were computed again.
	StateWrites, StateRefused, StateRetried uint64
	States, StateBytes                      int
}

// Stats returns the numbers of b.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{
		Published: b.published.Load(), Delivered: b.delivered.Load(),
		Gaps: b.gaps.Load(), Skipped: b.skipped.Load(),
		Subscriptions: len(b.subs), Channels: len(b.feeds), Patterns: len(b.patterns),
		Bytes:       b.bytes,
		StateWrites: b.stateWrites.Load(), StateRefused: b.stateRefused.Load(), StateRetried: b.stateRetried.Load(),
		States: b.states.count(), StateBytes: b.states.bytes,
	}
}
