package broker

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestGivenKnowsExactlyWhatWasGiven(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	origin := ID{1000, 77}
	g := newIssuedIDs(origin)
	all := []ID{origin}
	for range 30_000 {
		next := all[len(all)-1]
		switch rng.IntN(10) {
		case 0, 1, 2:
			next.N++
		case 3:
			next.N += 2 + rng.Uint64N(5)
		case 4:
			next = ID{next.Ms + rng.Uint64N(1<<20) + 1, rng.Uint64()}
		default:
			next = ID{next.Ms + 1 + rng.Uint64N(3), 77}
		}
		g.add(next)
		all = append(all, next)
	}
	for range 20_000 {
		i := rng.IntN(len(all))
		if !g.has(all[i]) {
			t.Fatalf("%s was given, and is not known", all[i])
		}
		near := all[i]
		switch rng.IntN(4) {
		case 0:
			near.N += rng.Uint64N(3)
		case 1:
			near.N -= rng.Uint64N(3)
		case 2:
			near.Ms++
		case 3:
			near = ID{near.Ms - 1, rng.Uint64()}
		}
		at, want := slices.BinarySearchFunc(all, near, ID.Compare)
		if got := g.has(near); got != want {
			t.Fatalf("has(%s) is %v, want %v", near, got, want)
		}
		below, ok := g.below(near)
		if ok != (at > 0) || ok && below != all[at-1] {
			t.Fatalf("below(%s) is %s, %v; want %v", near, below, ok, all[max(at-1, 0)])
		}
	}
	if g.has(ID{}) || g.has(ID{^uint64(0), ^uint64(0)}) {
		t.Error("ids outside of all are known")
	}
}

func TestGivenIsBounded(t *testing.T) {
	g := newIssuedIDs(ID{1, 0})
	id := ID{2, 0}
	for range 3_000_000 {
		id.Ms += 1 << 20 // runs that take the most room
		id.N = id.Ms << 20
		g.add(id)
	}
	if g.bytes > maxIssuedBytes {
		t.Errorf("%d bytes, at most %d are allowed", g.bytes, maxIssuedBytes)
	}
	if g.cut.IsZero() || g.has(ID{2 + 1<<20, (2 + 1<<20) << 20}) || !g.has(id) {
		t.Error("the oldest ids are to be forgotten, the newest kept")
	}
	if _, ok := g.below(ID{3, 0}); ok {
		t.Error("what lies below what was forgotten is not known")
	}
}
