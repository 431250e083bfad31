package broker

import (
	"encoding/binary"
	"sort"
)

// given is the set of ids that the log gave, as this node applied them: what
// tells a good cursor from one of another log, another run, or a history that
// was lost. Ids come in ascending order.
//
// Consecutive ids of a millisecond are one run, and a run takes about three
// bytes. The set is bounded: of very old ids it can only say that it does not
// know.
type given struct {
	origin ID // counts as given: the position before the first entry
	cut    ID // the newest id that was forgotten to stay within the bound
	last   ID

	blocks []givenBlock // closed runs, oldest first
	bytes  int          // of blocks
	closed run          // the last one in blocks
	open   run          // may still grow; count 0 when there is none
}

// givenBlock has runs, each as the difference to the one before it in the
// block: milliseconds, first number (signed), and length.
type givenBlock struct {
	first ID
	runs  []byte
}

// run is count ids of one millisecond, from n on.
type run struct{ ms, n, count uint64 }

func (r run) last() ID { return ID{r.ms, r.n + r.count - 1} }

const (
	givenBlockSize = 4 << 10
	givenMax       = 16 << 20
)

func newGiven(origin ID) given { return given{origin: origin, last: origin} }

// add records the next id.
func (g *given) add(id ID) {
	g.last = id
	if g.open.count > 0 && g.open.ms == id.Ms && g.open.n+g.open.count == id.N {
		g.open.count++
		return
	}
	g.close()
	g.open = run{id.Ms, id.N, 1}
}

// close moves the open run to the blocks.
func (g *given) close() {
	if g.open.count == 0 {
		return
	}
	if n := len(g.blocks); n == 0 || len(g.blocks[n-1].runs) >= givenBlockSize {
		g.blocks = append(g.blocks, givenBlock{first: ID{g.open.ms, g.open.n}})
		g.closed = run{}
	}
	b := &g.blocks[len(g.blocks)-1]
	g.bytes -= len(b.runs)
	b.runs = binary.AppendUvarint(b.runs, g.open.ms-g.closed.ms)
	b.runs = binary.AppendVarint(b.runs, int64(g.open.n-g.closed.n))
	b.runs = binary.AppendUvarint(b.runs, g.open.count)
	g.bytes += len(b.runs)
	g.closed = g.open
	for g.bytes > givenMax && len(g.blocks) > 1 {
		g.blocks[0].each(func(r run) bool { g.cut = r.last(); return true })
		g.bytes -= len(g.blocks[0].runs)
		g.blocks = append(g.blocks[:0], g.blocks[1:]...)
	}
}

// each calls f for the runs of b until f returns false.
func (b *givenBlock) each(f func(run) bool) {
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

// has reports whether the log gave id. Of an id at or below g.cut it does not
// know, and says no.
func (g *given) has(id ID) bool {
	if id == g.origin {
		return true
	}
	below, ok := g.below(ID{id.Ms, id.N + 1})
	return ok && below == id
}

// below is the newest given id under id; false if there is none, or it is
// older than what is known.
func (g *given) below(id ID) (best ID, ok bool) {
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
	if g.open.count > 0 && offer(g.open) {
		return best, ok
	}
	i := sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i].first.Compare(id) >= 0 })
	if i > 0 {
		g.blocks[i-1].each(offer)
		return best, ok
	}
	if g.cut.IsZero() && id.After(g.origin) {
		return g.origin, true
	}
	return ID{}, false
}
