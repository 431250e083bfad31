package broker

import (
	"sort"
	"sync/atomic"
	"unsafe"
)

// segment is a part of a history: encoded events, one after the other, and where
// each ends. It only grows, and an entry does not change once it is counted in n,
// so that readers share it without a lock or a copy:
//
//	buf   id: 1-0\ndata: a\n\n|id: 1-1\ndata: b\n\n|······
//	index 1-0, ends at 18     |1-1, ends at 36     |······   n = 2
//
// Appending is guarded as the history is. A reader loads n, then reads below it.
type segment struct {
	buf    []byte  // len is capacity; filled up to the last entry's end
	index  []entry // len is capacity
	n      atomic.Uint32
	first  uint64 // sequence number of index[0] in the history
	before ID     // id of the entry before index[0], zero if there was none
	next   *link  // leads to the segment after
	in     *link  // leads here; nil until the segment is linked
	extra  int    // the memory of metas that only one entry has
	// special says that some entry is not for every reader: it is live, or has
	// an except or a filter.
	special atomic.Bool
}

// link leads from one segment to the next. It is cut when the history drops the
// next one: otherwise a reader that is stalled in a segment would keep all segments
// after it in memory, whatever the history's bounds are.
type link struct{ atomic.Pointer[segment] }

// lost is the segment that a cut link leads to. Its sequence numbers lie before all
// others, so that readers take it for a dropped one.
var lost = &segment{next: &link{}}

// connect makes next the segment after s.
func (s *segment) connect(next *segment) {
	next.in = s.next
	s.next.Store(next)
}

// cut keeps readers of the segment before s from coming to it.
func (s *segment) cut() {
	if s.in != nil {
		s.in.Store(lost)
	}
}

// entry is one event of a segment.
type entry struct {
	id   ID
	end  uint32 // where it ends in buf
	own  bool   // its id line is the publisher's
	meta *meta
}

// meta is what readers need to know of an event besides its bytes. The events of a
// channel share one, except those that are not for one session.
type meta struct {
	channel string
	except  string     // the session that does not get it
	filter  *Filter    // who gets it, nil for everybody
	live    bool       // not for replay: the channel keeps no history
	state   *stateLink // the change of the channel's value; nil for an event
}

const (
	minSegment = 512
	maxSegment = 64 << 10
	entrySize  = int(unsafe.Sizeof(entry{}))
	metaSize   = int(unsafe.Sizeof(meta{}))
	// segmentSize is what a segment costs besides its buffers.
	segmentSize = int(unsafe.Sizeof(segment{}) + unsafe.Sizeof(link{}))
)

// newSegment makes the segment after prev, with room for an event of need bytes and
// for more of that size, up to limit bytes.
func newSegment(prev *segment, need, limit int) *segment {
	s := &segment{next: &link{}}
	size := minSegment
	if prev != nil {
		s.first = prev.first + uint64(prev.n.Load())
		s.before = prev.idBefore(prev.n.Load())
		size = max(size, 2*len(prev.buf))
	}
	size = max(min(size, limit, maxSegment), need)
	s.buf = make([]byte, size)
	s.index = make([]entry, max(size/need, size/512, 1))
	return s
}

// emptySegment makes the segment after prev with room for nothing. It is the tail of
// a history that holds nothing, where readers wait.
func emptySegment(prev *segment) *segment {
	s := &segment{next: &link{}}
	if prev != nil {
		s.first = prev.first + uint64(prev.n.Load())
		s.before = prev.idBefore(prev.n.Load())
	}
	return s
}

// charge is the memory of m if only one event has it, else 0.
func (m *meta) charge() int {
	if m.except == "" && m.filter == nil {
		return 0
	}
	return metaSize + len(m.except) + m.filter.size()
}

// charge is the memory that s takes.
func (s *segment) charge() int {
	if len(s.buf) == 0 {
		return 0
	}
	return segmentSize + len(s.buf) + len(s.index)*entrySize + s.extra
}

// fits reports whether an event of size bytes can be appended.
func (s *segment) fits(size int) bool {
	n := s.n.Load()
	return int(n) < len(s.index) && int(s.start(n))+size <= len(s.buf)
}

// append adds an event that fits.
func (s *segment) append(id ID, m *meta, own bool, block []byte) {
	n := s.n.Load()
	start := s.start(n)
	copy(s.buf[start:], block)
	if m.live || m.except != "" || m.filter != nil {
		s.special.Store(true)
	}
	s.index[n] = entry{id: id, end: start + uint32(len(block)), own: own, meta: m}
	s.extra += m.charge()
	s.n.Store(n + 1)
}

// start is where entry i begins in buf.
func (s *segment) start(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	return s.index[i-1].end
}

// bytes are the encoded entries from i up to, not including, j.
func (s *segment) bytes(i, j uint32) []byte {
	return s.buf[s.start(i):s.start(j):s.start(j)]
}

// within is the end of the entries from i on, at least one, that fit in size
// bytes.
func (s *segment) within(i uint32, size int) uint32 {
	n := s.n.Load()
	limit := int(s.start(i)) + size
	fits := sort.Search(int(n-i), func(k int) bool { return int(s.index[int(i)+k].end) > limit })
	return i + uint32(max(fits, 1))
}

// idBefore is the id of the entry before entry i.
func (s *segment) idBefore(i uint32) ID {
	if i == 0 {
		return s.before
	}
	return s.index[i-1].id
}

// after is the first entry above id, among the first n.
func (s *segment) after(id ID, n uint32) uint32 {
	return uint32(sort.Search(int(n), func(i int) bool { return s.index[i].id.After(id) }))
}
