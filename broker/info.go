package broker

import (
	"slices"
	"strings"
)

// ChannelInfo describes a channel that is in memory.
type ChannelInfo struct {
	Name        string
	Subscribers int // that name it; readers through patterns are not counted
	Events      int // kept
	Bytes       int // memory of its history
	// Oldest and Newest are the ends of what is kept; zero when it is nothing.
	Oldest, Newest ID
}

// Channel describes one channel, and reports whether it is in memory.
func (b *Broker) Channel(name string) (ChannelInfo, bool) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sources[name]
	if s == nil || IsBeneath(name) {
		return ChannelInfo{Name: name}, false
	}
	s.trim(now)
	return s.info(), true
}

// Channels describes the channels whose names begin with prefix and sort after
// the name after, in order, up to limit; more says that there are others.
func (b *Broker) Channels(prefix, after string, limit int) (list []ChannelInfo, more bool) {
	names := b.names(prefix, after)
	slices.Sort(names) // without the lock: publishing goes on
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, name := range names {
		if len(list) == limit {
			return list, true
		}
		if s := b.sources[name]; s != nil { // else it has gone since
			s.trim(now)
			list = append(list, s.info())
		}
		if i%1024 == 1023 {
			b.mu.Unlock()
			b.mu.Lock()
		}
	}
	return list, false
}

// names are the names of channels that begin with prefix and sort after the
// name after, in any order.
func (b *Broker) names(prefix, after string) (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.sources {
		if name > after && strings.HasPrefix(name, prefix) && !IsBeneath(name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *source) info() ChannelInfo {
	info := ChannelInfo{Name: s.name, Subscribers: len(s.subs), Events: s.count(), Bytes: s.charge}
	if oldest, ok := s.oldestKept(); ok {
		info.Oldest, info.Newest = oldest, s.newest()
	}
	return info
}

// Stats are the numbers of a broker: totals since it began, and what it holds.
type Stats struct {
	Published, Delivered, Gaps uint64
	// Skipped entries were of a kind or version that this broker does not know.
	Skipped                                  uint64
	Subscriptions, Channels, Patterns, Bytes int
	// StateWrites changed a value; StateRefused were refused by the log, most
	// of them for a condition, and StateRetried of those were computed anew.
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
		Subscriptions: len(b.subs), Channels: len(b.sources), Patterns: len(b.patterns),
		Bytes:       b.bytes,
		StateWrites: b.stateWrites.Load(), StateRefused: b.stateRefused.Load(), StateRetried: b.stateRetried.Load(),
		States: b.states.count(), StateBytes: b.states.bytes,
	}
}
