package broker

import (
	"math"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// feed is a history and who reads it: that of a channel, of a name beneath
// ("football/"), or of a wildcard pattern, which has a copy of what its channels
// got lately: see refill.go. The changes of values have feeds of their own.
//
// Broker.mu guards all of it, but for what history lets readers do without.
type feed struct {
	history
	name    string
	meta    *meta
	policy  Policy
	pattern *channel.Pattern // nil for a channel and a name beneath

	// complete is, for a pattern, the position after which it has everything
	// that its channels keep. For a reader that begins earlier it is refilled.
	complete ID
	// begins is, for a pattern, the position after which it has entries without a hole: not
	// below what it was refilled from, and the last entry that it has dropped.
	begins ID
	// refilled is when a pattern was refilled last, in milliseconds.
	refilled uint64

	// pins is, for a pattern, how many keep it that have it refilled in steps.
	pins int
	// captured is, for a channel, the number of the last refill in steps that captured it.
	captured uint64

	// unread is, for a pattern that is kept for readers that come back, when the
	// last one left, in milliseconds; 0 while it is read.
	unread uint64

	// sealed says that nothing older than what it has belongs to it: it was purged, or has
	// lost an entry that it never held.
	sealed bool

	table table  // that it counts in
	owner *owner // in whose share; nil for none

	charged int    // what of size is counted in Broker.bytes
	heap    [2]int // index in Broker.largest, and in that of its owner; -1 when it holds nothing
	touched bool
	readers []*position

	state *feed // changes of values, for the same readers; nil until there is one
	of    *feed // what this is the state of, nil for others

	idle [2]idleLink // in a list of the broker, and in that of its owner
}

// idleLink are the neighbours of a feed in an idleList.
type idleLink struct {
	prev, next *feed
	in         bool
}

func newFeed(name string, policy Policy) *feed {
	f := &feed{name: name, policy: policy, heap: [2]int{-1, -1}}
	f.init()
	return f
}

// expire stops keeping what is over the policy's bounds on number and age. What a
// pattern has is bounded in number by its channels.
func (f *feed) expire(now uint64) {
	count, oldest := f.policy.Events, uint64(0)
	if f.pattern != nil {
		count = math.MaxInt
	}
	if age := uint64(f.policy.Age / time.Millisecond); age > 0 && age <= now {
		oldest = now - age + 1
	}
	f.trim(count, oldest)
}

// selects reports whether what is published to name lands in f.
func (f *feed) selects(name string) bool {
	if f.pattern != nil {
		return f.pattern.Match(name)
	}
	return f.name == name
}

// holds reports whether an event of the channel name is in the memory of f.
func (f *feed) holds(name string) bool {
	for seg := f.oldest; seg != nil; seg = seg.next.Load() {
		for i := range seg.n.Load() {
			if seg.index[i].meta.channel == name {
				return true
			}
		}
	}
	return false
}

func (f *feed) info() ChannelInfo {
	info := ChannelInfo{Name: f.name, Subscribers: len(f.readers), Appended: f.end().seq() - f.base, Events: f.count(), Bytes: f.charged}
	if oldest, ok := f.oldestKept(); ok {
		info.Oldest, info.Newest = oldest, f.newest()
	}
	return info
}

// idleList is a list of feeds, linked through their idle fields.
type idleList struct {
	first, last *feed
	own         bool // it is one of an owner
}

func (l *idleList) link(f *feed) *idleLink {
	if l.own {
		return &f.idle[1]
	}
	return &f.idle[0]
}

// pushFront makes a feed the first one.
func (l *idleList) pushFront(f *feed) {
	*l.link(f) = idleLink{next: l.first, in: true}
	if l.first != nil {
		l.link(l.first).prev = f
	} else {
		l.last = f
	}
	l.first = f
}

func (l *idleList) next(f *feed) *feed { return l.link(f).next }

func (l *idleList) push(f *feed) {
	*l.link(f) = idleLink{prev: l.last, in: true}
	if l.last != nil {
		l.link(l.last).next = f
	} else {
		l.first = f
	}
	l.last = f
}

// remove removes a feed, if it is in the list.
func (l *idleList) remove(f *feed) {
	at := l.link(f)
	if !at.in {
		return
	}
	if at.prev != nil {
		l.link(at.prev).next = at.next
	} else {
		l.first = at.next
	}
	if at.next != nil {
		l.link(at.next).prev = at.prev
	} else {
		l.last = at.prev
	}
	*at = idleLink{}
}
