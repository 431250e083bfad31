package broker

import (
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/channel"
)

// source is one history that readers have positions in: that of a channel, of
// a name beneath ("football/"), or of a wildcard pattern, which has a copy of
// what its channels get.
//
// Broker.mu guards all fields but chain, which readers load.
type source struct {
	name    string
	meta    *meta
	policy  Policy
	pattern *channel.Pattern // nil for a channel and a name beneath

	// chain tells readers whether their place is still in this history. It is
	// replaced when the history is emptied or rebuilt.
	chain  atomic.Pointer[chain]
	oldest *segment // the first that is held
	tail   *segment // the last: where events are appended

	// kept is the first entry that a reader may begin at. What lies before it
	// is held a little longer, for readers that are connected.
	kept place
	// trimmed is the newest id that kept has passed: a reader whose cursor is
	// below it has a gap here.
	trimmed ID
	// complete is, for a pattern, the position after which it has everything
	// that its channels keep. A reader that begins earlier has it rebuilt.
	complete ID

	// unread is, for a pattern that is kept for readers that come back, when the
	// last one left, in milliseconds; 0 while it is read.
	unread uint64

	charge int // memory held, in Broker.bytes too
	heap   int // index in Broker.largest, -1 when it holds nothing
	dirty  bool
	subs   []*position

	state *source // changes of values, for those who read this; nil until there is one
	of    *source // what this is the state of, nil for others

	// Neighbours in Broker.idle, nil when it is not there.
	idlePrev, idleNext *source
}

// chain is one life of a history.
type chain struct {
	// gone is the sequence number of the first entry that is still held.
	gone atomic.Uint64
}

// place is an entry of a history, or the one to come.
type place struct {
	seg *segment
	i   uint32
}

func (p place) seq() uint64 { return p.seg.first + uint64(p.i) }

// settle moves a place that is past the end of a segment to the next one.
func (p place) settle() place {
	for p.i == p.seg.n.Load() {
		next := p.seg.next.Load()
		if next == nil {
			break
		}
		p = place{next, 0}
	}
	return p
}

// entry is the entry at p, if there is one yet. p must be settled.
func (p place) entry() (*entry, bool) {
	if p.i < p.seg.n.Load() {
		return &p.seg.index[p.i], true
	}
	return nil, false
}

// end is the place of the entry to come.
func (s *source) end() place { return place{s.tail, s.tail.n.Load()} }

// newest is the id of the last entry, zero if there never was one.
func (s *source) newest() ID { return s.tail.idBefore(s.tail.n.Load()) }

// after is the first kept entry above id.
func (s *source) after(id ID) place {
	p := s.kept.settle()
	for {
		n := p.seg.n.Load()
		next := p.seg.next.Load()
		if next == nil || n > 0 && p.seg.index[n-1].id.After(id) {
			return place{p.seg, max(p.i, p.seg.after(id, n))}.settle()
		}
		p = place{next, 0}
	}
}

// oldestKept is the id of the first entry that a reader may begin at.
func (s *source) oldestKept() (ID, bool) {
	e, ok := s.kept.settle().entry()
	if !ok {
		return ID{}, false
	}
	return e.id, true
}

// count is how many entries are kept.
func (s *source) count() int { return int(s.end().seq() - s.kept.seq()) }

// trim moves kept over what breaks the bounds on number and age.
func (s *source) trim(now uint64) {
	for {
		s.kept = s.kept.settle()
		e, ok := s.kept.entry()
		if !ok {
			return
		}
		old := s.policy.Age > 0 && e.id.Ms+uint64(s.policy.Age/time.Millisecond) <= now
		if !old && (s.pattern != nil || s.count() <= s.policy.Events) {
			return
		}
		s.pass(e)
	}
}

// pass moves kept over its entry e.
func (s *source) pass(e *entry) {
	s.kept.i++
	s.lose(e.id)
}

// lose notes that an entry cannot be replayed from here any more.
func (s *source) lose(id ID) {
	if id.After(s.trimmed) {
		s.trimmed = id
	}
}
