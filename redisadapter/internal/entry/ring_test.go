package entry

import (
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestRingKnowsWhatWasAppliedLast(t *testing.T) {
	t.Parallel()
	p := NewRing(100)
	id := func(n int) broker.ID { return broker.ID{Ms: uint64(n)} }
	at := func(n int) Point { return Point{ID: id(n), Nonce: uint64(n)} }
	if p.Has(at(1)) || p.Has(Point{}) {
		t.Error("it knows what was never applied")
	}
	for n := 2; n <= 500; n += 2 {
		p.Add(at(n))
	}
	for _, c := range []struct {
		point Point
		want  bool
	}{
		{at(500), true},
		{at(302), true},
		{at(502), false},
		{at(499), false},
		{Point{ID: id(500), Nonce: 1}, false},
		{at(300), true},
		{at(299), true},
		{Point{ID: id(300), Nonce: 1}, true},
		{Point{}, false}, // forgotten
	} {
		if got := p.Has(c.point); got != c.want {
			t.Errorf("%v: %v", c.point, got)
		}
	}
	if got := p.Below(id(401)); got != at(400) {
		t.Errorf("below 401 is %v", got)
	}
	if got := p.Below(id(302)); got != (Point{}) {
		t.Errorf("below the oldest is %v", got)
	}
	p.Cut(id(401))
	if p.Has(at(402)) || !p.Has(at(400)) || !p.Has(at(302)) || !p.Has(at(100)) {
		t.Error("a cut removes what is above, and nothing else")
	}
	for n := 402; n <= 600; n += 2 {
		p.Add(Point{ID: id(n), Nonce: 7})
	}
	if !p.Has(Point{ID: id(402), Nonce: 7}) || p.Has(at(404)) || !p.Has(at(380)) {
		t.Error("after a cut others are remembered")
	}
	p.Cut(id(200))
	if p.Has(at(202)) || !p.Has(at(200)) || p.Has(at(402)) {
		t.Error("a cut below what is remembered removes all")
	}
}
