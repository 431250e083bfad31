package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// historyModel is what a history is to be, as a slice: the entries that it holds
// or held since it was emptied last, and where the kept ones begin.
type historyModel struct {
	rng     *rand.Rand
	entries []modelledEntry
	kept    int // index of the first kept entry
	trimmed ID
	newest  ID
	n       int // entries that were ever appended
}

type modelledEntry struct {
	id    ID
	block string
	size  int // beside the segment
	own   bool
}

// blockOf is the encoded event number n: readers know by its bytes alone what it
// has to be.
func blockOf(id ID, n int) string {
	return fmt.Sprintf("id: %s\ndata: %d%s\n\n", id, n, strings.Repeat(" x", n%97))
}

// step does one random thing to h and to the model. The lock is held.
func (m *historyModel) step(h *history) {
	switch r := m.rng.IntN(100); {
	case r < 70:
		m.append(h)
	case r < 85:
		count, oldest := m.rng.IntN(40), m.newest.Ms-min(m.newest.Ms, uint64(m.rng.IntN(60)))
		h.trim(count, oldest)
		for len(m.entries) > m.kept && (m.entries[m.kept].id.Ms < oldest || len(m.entries)-m.kept > count) {
			m.pass(m.kept + 1)
		}
	case r < 97:
		if h.size == 0 {
			return
		}
		seg, tail := h.oldest, h.oldest == h.tail
		last := int(h.oldest.n.Load())
		first := m.n - int(h.end().seq()-seg.first) // number of its first entry
		held := m.n - len(m.entries)                // number of entries[0]
		if wasTail := h.dropOldest(); wasTail != tail {
			panic("dropOldest is wrong about the tail")
		}
		m.pass(first + last - held)
	default:
		h.empty()
		m.pass(len(m.entries))
		m.trimmed = latest(m.trimmed, m.newest)
		m.entries, m.kept = nil, 0
	}
}

func (m *historyModel) append(h *history) {
	id := ID{m.newest.Ms, m.newest.N + 1}
	if m.rng.IntN(3) == 0 {
		id = ID{m.newest.Ms + uint64(1+m.rng.IntN(20)), uint64(m.rng.IntN(3))}
	}
	meta := &meta{channel: "a", live: m.rng.IntN(20) == 0}
	if m.rng.IntN(10) == 0 {
		meta.except = "somebody"
	}
	e := modelledEntry{id: id, block: blockOf(id, m.n), size: meta.charge(), own: m.rng.IntN(2) == 0}
	if !h.tail.fits(len(e.block)) {
		h.link(h.nextSegment(len(e.block), minSegment+m.rng.IntN(2000)))
	}
	h.append(id, meta, e.own, []byte(e.block))
	if meta.live {
		m.trimmed = latest(m.trimmed, id)
	}
	m.entries, m.newest, m.n = append(m.entries, e), id, m.n+1
}

// pass moves the kept entries' begin forward to index to.
func (m *historyModel) pass(to int) {
	for ; m.kept < to; m.kept++ {
		m.trimmed = latest(m.trimmed, m.entries[m.kept].id)
	}
}

// check compares h with the model. The lock is held.
func (m *historyModel) check(t *testing.T, h *history) {
	t.Helper()
	kept := m.entries[m.kept:]
	if h.count() != len(kept) || h.newest() != m.newest || h.trimmed != m.trimmed {
		t.Fatalf("%d kept, newest %s, trimmed %s; want %d, %s, %s", h.count(), h.newest(), h.trimmed, len(kept), m.newest, m.trimmed)
	}
	var got []modelledEntry
	for e, block := range h.all() {
		got = append(got, modelledEntry{e.id, string(block), e.meta.charge(), e.own})
	}
	if !slices.Equal(got, kept) {
		t.Fatalf("it keeps %v, want %v", got, kept)
	}
	at := len(kept)
	for p := range h.backward() {
		if at--; at < 0 || p.seg.index[p.i].id != kept[at].id {
			t.Fatalf("backwards comes %v, want %v", p, kept)
		}
	}
	if at != 0 {
		t.Fatalf("backwards %d of %d are missing", at, len(kept))
	}
	oldest, ok := h.oldestKept()
	if ok != (len(kept) > 0) || ok && oldest != kept[0].id {
		t.Fatalf("the oldest kept is %s, %v", oldest, ok)
	}
	size := 0
	for seg := h.oldest; seg != nil; seg = seg.next.Load() {
		if seg == lost {
			t.Fatal("a held segment is cut off")
		}
		size += seg.charge()
	}
	if h.size != size {
		t.Fatalf("the size is %d, want %d", h.size, size)
	}
	// The place of a reader that has read up to an id, whether that is known or not.
	id := ID{m.newest.Ms - min(m.newest.Ms, uint64(m.rng.IntN(80))), uint64(m.rng.IntN(4))}
	want := slices.IndexFunc(kept, func(e modelledEntry) bool { return e.id.After(id) })
	e, ok := h.after(id).entry()
	if ok != (want >= 0) || ok && e.id != kept[want].id {
		t.Fatalf("after %s comes %v, want %v of %v", id, e, want, kept)
	}
	if last, ok := h.unkept(); ok && (len(kept) > 0 && !kept[0].id.After(last) || h.oldest.n.Load() == 0) {
		t.Fatalf("up to %s nothing is kept, but %s is", last, kept[0].id)
	}
}

// historyReader reads a history without its lock, and knows what it has to get.
type historyReader struct {
	chain  *chain
	at     place
	cursor ID
	next   int // the number of the next event
}

// locate finds the place after the cursor. The lock is held. Where nothing was
// lost above the cursor, the next event must be the next number.
func (r *historyReader) locate(h *history, n int) {
	r.chain, r.at = h.chain.Load(), h.after(r.cursor)
	if h.trimmed.After(r.cursor) {
		r.next = -1 // a gap: any number
		if _, ok := r.at.entry(); !ok {
			r.cursor, r.next = h.newest(), n
		}
	}
}

// read reads what is there, and reports whether the reader is still in place.
func (r *historyReader) read(h *history, most int) (ok bool, err error) {
	for range most {
		if !h.settle(r.chain, &r.at) {
			return false, nil
		}
		e, more := r.at.entry()
		if !more && r.at.seg == lost {
			return false, errors.New("it is where a cut link leads")
		}
		if !more {
			return true, nil
		}
		block := string(r.at.seg.bytes(r.at.i, r.at.i+1))
		_, data, _ := strings.Cut(block, "data: ")
		number, _, _ := strings.Cut(strings.TrimSpace(data), " ")
		n, _ := strconv.Atoi(number)
		switch {
		case block != blockOf(e.id, n):
			return false, fmt.Errorf("event %s is %q", e.id, block)
		case r.next >= 0 && n != r.next:
			return false, fmt.Errorf("event %d comes, %d was expected", n, r.next)
		case !e.id.After(r.cursor):
			return false, fmt.Errorf("event %s comes after %s", e.id, r.cursor)
		}
		r.cursor, r.next = e.id, n+1
		r.at.i++
	}
	return true, nil
}

// TestHistoryModel does random things to a history and to a slice, and reads the
// history all the while from other goroutines that take no lock.
func TestHistoryModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			var h history
			var mu sync.Mutex // as Broker.mu
			h.init()
			m := &historyModel{rng: rand.New(rand.NewPCG(seed, 1))}
			var done atomic.Bool
			var readers sync.WaitGroup
			for i := range 4 {
				readers.Go(func() {
					r, rng, fell := &historyReader{}, rand.New(rand.NewPCG(seed, uint64(i))), true
					for last := false; ; last = done.Load() {
						if fell || rng.IntN(50) == 0 {
							mu.Lock()
							r.locate(&h, m.n)
							mu.Unlock()
						}
						most := 1 + rng.IntN(30)
						if last {
							most = 1 << 20
						}
						ok, err := r.read(&h, most)
						if err != nil {
							t.Errorf("reader %d: %v", i, err)
							return
						}
						if fell = !ok; last && ok {
							break
						}
					}
					mu.Lock()
					defer mu.Unlock()
					if r.cursor != m.newest && !h.trimmed.After(r.cursor) {
						t.Errorf("reader %d ends at %s, the history at %s", i, r.cursor, m.newest)
					}
				})
			}
			for range 1500 {
				mu.Lock()
				m.step(&h)
				m.check(t, &h)
				mu.Unlock()
			}
			done.Store(true)
			readers.Wait()
		})
	}
}

// TestARewoundHistoryBeginsWithAnyID is about what a pattern is refilled with: it
// is older than what was there.
func TestARewoundHistoryBeginsWithAnyID(t *testing.T) {
	var h history
	h.init()
	add := func(id ID) {
		if !h.tail.fits(10) {
			h.link(h.nextSegment(10, minSegment))
		}
		h.append(id, &meta{}, false, []byte("0123456789"))
	}
	add(ID{5, 0})
	old, at := h.chain.Load(), h.end()
	h.empty()
	if h.newest() != (ID{5, 0}) || h.trimmed != (ID{5, 0}) || h.size != 0 || h.count() != 0 {
		t.Errorf("emptied: newest %s, trimmed %s, size %d, %d kept", h.newest(), h.trimmed, h.size, h.count())
	}
	if h.settle(old, &at) {
		t.Error("a reader stays in place")
	}
	h.rewind()
	if !h.newest().IsZero() {
		t.Errorf("rewound: newest %s", h.newest())
	}
	add(ID{3, 0})
	if e, ok := h.after(ID{2, 0}).entry(); !ok || e.id != (ID{3, 0}) {
		t.Errorf("after 2-0 comes %v", e)
	}
}

// TestAReaderFinishesASegmentThatWasDropped is what readers without a lock are
// promised: the bytes that they are in stay, and what follows is a gap.
func TestAReaderFinishesASegmentThatWasDropped(t *testing.T) {
	var h history
	h.init()
	var blocks []string
	for i := range 200 {
		id := ID{1, uint64(i)}
		block := blockOf(id, i)
		if !h.tail.fits(len(block)) {
			h.link(h.nextSegment(len(block), minSegment))
		}
		h.append(id, &meta{}, false, []byte(block))
		blocks = append(blocks, block)
	}
	chain, at := h.chain.Load(), h.after(ID{})
	first := int(at.seg.n.Load())
	rest := at.seg.bytes(1, uint32(first))
	for h.size > 0 {
		h.dropOldest()
	}
	if got, want := string(rest), strings.Join(blocks[1:first], ""); got != want {
		t.Errorf("the bytes are %q, want %q", got, want)
	}
	for i := range first {
		if !h.settle(chain, &at) {
			t.Fatalf("the reader falls off at entry %d of %d", i, first)
		}
		if got := string(at.seg.bytes(at.i, at.i+1)); got != blocks[i] {
			t.Errorf("entry %d is %q, want %q", i, got, blocks[i])
		}
		at.i++
	}
	if h.settle(chain, &at) {
		t.Error("the reader does not fall off behind the segment")
	}
}

// TestReadersMissNothingAtTheEndOfASegment has readers wait at the end of segments
// of a few entries, where the next segment comes at any moment.
func TestReadersMissNothingAtTheEndOfASegment(t *testing.T) {
	var h history
	var mu sync.Mutex // as Broker.mu
	h.init()
	const events = 100_000
	var readers sync.WaitGroup
	for range 2 {
		r := &historyReader{}
		r.locate(&h, 0)
		readers.Go(func() {
			for r.next < events {
				ok, err := r.read(&h, events)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					mu.Lock()
					r.locate(&h, 0)
					mu.Unlock()
				}
			}
		})
	}
	block := make([]byte, 0, 4<<10)
	for n := range events {
		id := ID{uint64(n + 1), 0}
		block = append(block[:0], blockOf(id, n)...)
		mu.Lock()
		if !h.tail.fits(len(block)) {
			h.link(h.nextSegment(len(block), minSegment))
		}
		h.append(id, &meta{}, false, block)
		if h.size > 1<<20 && n < events-1 {
			h.trim(1000, 0)
			for _, ok := h.unkept(); ok; _, ok = h.unkept() {
				h.dropOldest()
			}
		}
		mu.Unlock()
	}
	readers.Wait()
}
