package broker

import (
	"encoding/binary"
	"sort"
)

// issuedIDs is the set of ids that the log has issued, as far as this node has
// applied them. It tells a good cursor from one of another log or of another run,
// and from one of entries that the log lost. Ids are added in ascending order.
//
// Consecutive ids of one millisecond are one run, which takes about three bytes.
// The set is bounded: it forgets the oldest ids, up to cut.
type issuedIDs struct {
	origin ID // the position before the first entry, which counts as issued
	cut    ID // the newest id that was forgotten; zero if none was
	last   ID // the newest id

	blocks []issuedBlock // closed runs, oldest first
	bytes  int           // of blocks
	closed run           // the last one in blocks
	open   run           // may still grow; count 0 when there is none
}

// issuedBlock has runs, each as the difference to the one before it in the
// block: milliseconds, first number (signed), and length.
type issuedBlock struct {
	first ID
	runs  []byte
}

// run is count ids of one millisecond, from n on.
type run struct{ ms, n, count uint64 }

func (r run) last() ID { return ID{r.ms, r.n + r.count - 1} }

const (
	issuedBlockSize = 4 << 10
	maxIssuedBytes  = 16 << 20
)

func newIssuedIDs(origin ID) issuedIDs { return issuedIDs{origin: origin, last: origin} }

// add records the next id.
func (s *issuedIDs) add(id ID) {
	s.last = id
	if s.open.count > 0 && s.open.ms == id.Ms && s.open.n+s.open.count == id.N {
		s.open.count++
		return
	}
	s.close()
	s.open = run{id.Ms, id.N, 1}
}

// close moves the open run to the blocks.
func (s *issuedIDs) close() {
	if s.open.count == 0 {
		return
	}
	if n := len(s.blocks); n == 0 || len(s.blocks[n-1].runs) >= issuedBlockSize {
		s.blocks = append(s.blocks, issuedBlock{first: ID{s.open.ms, s.open.n}})
		s.closed = run{}
	}
	b := &s.blocks[len(s.blocks)-1]
	s.bytes -= len(b.runs)
	b.runs = binary.AppendUvarint(b.runs, s.open.ms-s.closed.ms)
	b.runs = binary.AppendVarint(b.runs, int64(s.open.n-s.closed.n))
	b.runs = binary.AppendUvarint(b.runs, s.open.count)
	s.bytes += len(b.runs)
	s.closed = s.open
	for s.bytes > maxIssuedBytes && len(s.blocks) > 1 {
		s.blocks[0].each(func(r run) bool { s.cut = r.last(); return true })
		s.bytes -= len(s.blocks[0].runs)
		s.blocks = append(s.blocks[:0], s.blocks[1:]...)
	}
}

// each calls f for the runs of b until f returns false.
func (b *issuedBlock) each(f func(run) bool) {
	var r run
	for p := b.runs; len(p) > 0; {
		ms, i := binary.Uvarint(p)
		n, j := binary.Varint(p[i:])
		count, k := binary.Uvarint(p[i+j:])
		p = p[i+j+k:]
		r = run{r.ms + ms, r.n + uint64(n), count}
		if !f(r) {
			return
		}
	}
}

// has reports whether the log has issued id. It is false for ids that were
// forgotten, which are those up to cut.
func (s *issuedIDs) has(id ID) bool {
	if id == s.origin {
		return true
	}
	below, ok := s.below(ID{id.Ms, id.N + 1})
	return ok && below == id
}

// below is the newest issued id below id; false if there is none, or it was
// forgotten.
func (s *issuedIDs) below(id ID) (best ID, ok bool) {
	offer := func(r run) bool {
		first := ID{r.ms, r.n}
		if first.Compare(id) >= 0 {
			return false
		}
		best, ok = r.last(), true
		if best.Compare(id) >= 0 {
			best = ID{r.ms, id.N - 1}
		}
		return true
	}
	if s.open.count > 0 && offer(s.open) {
		return best, ok
	}
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].first.Compare(id) >= 0 })
	if i > 0 {
		s.blocks[i-1].each(offer)
		return best, ok
	}
	if s.cut.IsZero() && id.After(s.origin) {
		return s.origin, true
	}
	return ID{}, false
}

// cutAfter removes the ids above id, which becomes the newest.
func (s *issuedIDs) cutAfter(id ID) {
	if !s.last.After(id) {
		return
	}
	old := *s
	*s = newIssuedIDs(old.origin)
	s.cut, s.last = old.cut, id
	// The last block that begins at or below id may go beyond it.
	n := sort.Search(len(old.blocks), func(i int) bool { return old.blocks[i].first.After(id) })
	if n > 0 {
		s.blocks = old.blocks[: n-1 : n-1]
		for i := range s.blocks {
			s.bytes += len(s.blocks[i].runs)
		}
		old.blocks[n-1].each(func(r run) bool { return s.addRun(r, id) })
	}
	s.addRun(old.open, id)
}

// addRun adds the ids of r up to id, and reports whether that is all of r.
func (s *issuedIDs) addRun(r run, id ID) bool {
	if first := (ID{r.ms, r.n}); r.count == 0 || first.After(id) {
		return false
	}
	whole := !r.last().After(id)
	if !whole {
		r.count = id.N - r.n + 1
	}
	s.close()
	s.open = r
	return whole
}
