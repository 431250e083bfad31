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
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name := range b.sources {
		if name > after && strings.HasPrefix(name, prefix) && !IsBeneath(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	for _, name := range names {
		s := b.sources[name]
		s.trim(now)
		list = append(list, s.info())
	}
	return list, more
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
}

// Stats returns the numbers of b.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{
		Published: b.published.Load(), Delivered: b.delivered.Load(),
		Gaps: b.gaps.Load(), Skipped: b.skipped.Load(),
		Subscriptions: len(b.subs), Channels: len(b.sources), Patterns: len(b.patterns),
		Bytes: b.bytes,
	}
}
