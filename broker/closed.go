package broker

import (
	"container/heap"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// A closed channel takes no events and no value any more. What it has is kept and
// replayed as before, and then its readers are told that it is closed. It is open again
// when it is purged, or when its history is over: see closedFor.

// The errors of operations that closed channels, or their number, stand in the way of.
var (
	ErrChannelClosed = errkind.New("closed", "", "the channel is closed: it takes no events and no value any more")
	ErrTooManyClosed = errkind.New("overloaded", "max_channels", "too many channels are closed")
	ErrShareOfClosed = errkind.New("share", "share", "your share of closed channels is used up")
)

// CloseOp is what an Op of KindClose does besides closing its channel.
type CloseOp struct {
	// Event says that Op.Event is published, as the channel's last one.
	Event bool

	// For is how long the channel is closed; 0 is until it is purged. Count is how many
	// channels may be closed; 0 is any number. Publish sets both.
	For   time.Duration
	Count int

	coming bool // it is counted in its owner's share
}

// CloseEntry is what an entry of KindClose says.
type CloseEntry struct {
	Event bool          // there is a last event
	For   time.Duration // how long the channel is closed; 0 is until it is purged
}

// HasEvent reports whether the operation publishes an event.
func (op *Op) HasEvent() bool {
	return op.Kind == KindEvent || op.Kind == KindClose && op.Close != nil && op.Close.Event
}

// closes is what the entry of the operation says, nil if it closes nothing.
func (op *Op) closes() *CloseEntry {
	if op.Kind != KindClose {
		return nil
	}
	return &CloseEntry{Event: op.Close.Event, For: op.Close.For}
}

const (
	// minClosed is how long a channel is closed at least: a publisher that is late must
	// not open it, nor one that tries again.
	minClosed = KeyWindow
	// unkeptClosed is how long a channel is closed that keeps no history.
	unkeptClosed = time.Hour
)

// closedFor is how long a channel with that policy is closed: as long as its last event
// is kept by age, 0 for ever.
func closedFor(p Policy) time.Duration {
	switch {
	case p.Events == 0:
		return unkeptClosed
	case p.Age == 0:
		return 0
	}
	return max(p.Age, minClosed)
}

// closedChannel is a channel that is closed.
type closedChannel struct {
	name  string
	id    ID     // of the entry that closed it
	until uint64 // in milliseconds; 0 is until it is purged
	at    int    // index in closedSet.due; -1 if it is not there
	owner *owner // in whose share it counts, in a Broker; nil for none
	by    Owner  // the same, in a log
}

func newClosed(name string, id ID, lasting time.Duration) *closedChannel {
	c := &closedChannel{name: strings.Clone(name), id: id, at: -1} // name may be a part of a request
	if lasting > 0 {
		c.until = id.Ms + uint64(lasting/time.Millisecond)
	}
	return c
}

// entry is c as Origin.Closed has it.
func (c *closedChannel) entry() Entry {
	e := Entry{ID: c.id, Version: EntryVersion, Kind: KindClose, Channel: c.name, Owner: c.by, Close: &CloseEntry{}}
	if c.until > 0 {
		e.Close.For = time.Duration(c.until-c.id.Ms) * time.Millisecond
	}
	return e
}

// closedSet is a set of closed channels. It is not safe for concurrent use.
type closedSet struct {
	byName map[string]*closedChannel
	due    dueHeap // those that are open again at some time
}

// of is a channel that is closed at a time; nil if it is not. It does not find one that
// is over and still in the set.
func (s *closedSet) of(name string, now uint64) *closedChannel {
	if len(s.byName) == 0 {
		return nil
	}
	if c := s.byName[name]; c != nil && (c.until == 0 || now < c.until) {
		return c
	}
	return nil
}

// add adds a channel, in place of one with its name.
func (s *closedSet) add(c *closedChannel) {
	s.remove(c.name)
	if s.byName == nil {
		s.byName = map[string]*closedChannel{}
	}
	s.byName[c.name] = c
	if c.until > 0 {
		heap.Push(&s.due, c)
	}
}

// remove removes a channel, and returns it; nil if it is not in the set.
func (s *closedSet) remove(name string) *closedChannel {
	c := s.byName[name]
	if c == nil {
		return nil
	}
	delete(s.byName, c.name)
	if c.at >= 0 {
		heap.Remove(&s.due, c.at)
	}
	return c
}

// over is a channel in the set whose time is over, nil if there is none.
func (s *closedSet) over(now uint64) *closedChannel {
	if len(s.due) == 0 || now < s.due[0].until {
		return nil
	}
	return s.due[0]
}

// entries are the channels as Origin.Closed has them.
func (s *closedSet) entries() (entries []Entry) {
	for _, c := range s.byName {
		entries = append(entries, c.entry())
	}
	return entries
}

// decide decides an operation, whose id is next, by which channels are closed, and
// closes or opens its channel. With r.Err it is refused, and with r.Unchanged there is no
// entry: the channel was closed by r.ID.
func (s *closedSet) decide(op *Op, next ID, r *Result) {
	switch op.Kind {
	case KindPurge:
		s.remove(op.Channel)
	case KindClose:
		s.decideClose(op, next, r)
	case KindEvent, KindState:
		if (op.Kind == KindEvent || op.State.Value != nil) && s.of(op.Channel, next.Ms) != nil {
			r.Err = ErrChannelClosed
		}
	}
}

func (s *closedSet) decideClose(op *Op, next ID, r *Result) {
	if c := s.of(op.Channel, next.Ms); c != nil {
		if op.Close.Event {
			r.Err = ErrChannelClosed
			return
		}
		r.ID, r.Unchanged = c.id, true
		return
	}
	for c := s.over(next.Ms); c != nil; c = s.over(next.Ms) {
		s.remove(c.name)
	}
	if op.Close.Count > 0 && len(s.byName) >= op.Close.Count {
		r.Err = ErrTooManyClosed
		return
	}
	c := newClosed(op.Channel, next, op.Close.For)
	c.by = op.Owner
	s.add(c)
}

// dueHeap is a heap of closed channels, the one that is over first at its beginning.
type dueHeap []*closedChannel

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	c := x.(*closedChannel)
	c.at = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.at = -1
	return c
}
