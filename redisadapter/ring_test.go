package redisadapter

import (
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

func TestRingKnowsWhatWasAppliedLast(t *testing.T) {
	t.Parallel()
	p := newRing(100)
	id := func(n int) broker.ID { return broker.ID{Ms: uint64(n)} }
	at := func(n int) entry.Point { return entry.Point{ID: id(n), Nonce: uint64(n)} }
	if p.has(at(1)) || p.has(entry.Point{}) {
		t.Error("it knows what was never applied")
	}
	for n := 2; n <= 500; n += 2 {
		p.add(at(n))
	}
	for _, c := range []struct {
		point entry.Point
		want  bool
	}{
		{at(500), true},
		{at(302), true},
		{at(502), false},
		{at(499), false},
		{entry.Point{ID: id(500), Nonce: 1}, false},
		{at(300), true},
		{at(299), true},
		{entry.Point{ID: id(300), Nonce: 1}, true},
		{entry.Point{}, false}, // forgotten
	} {
		if got := p.has(c.point); got != c.want {
			t.Errorf("%v: %v", c.point, got)
		}
	}
	if got := p.below(id(401)); got != at(400) {
		t.Errorf("below 401 is %v", got)
	}
	if got := p.below(id(302)); got != (entry.Point{}) {
		t.Errorf("below the oldest is %v", got)
	}
	p.cut(id(401))
	if p.has(at(402)) || !p.has(at(400)) || !p.has(at(302)) || !p.has(at(100)) {
		t.Error("a cut removes what is above, and nothing else")
	}
	for n := 402; n <= 600; n += 2 {
		p.add(entry.Point{ID: id(n), Nonce: 7})
	}
	if !p.has(entry.Point{ID: id(402), Nonce: 7}) || p.has(at(404)) || !p.has(at(380)) {
		t.Error("after a cut others are remembered")
	}
	p.cut(id(200))
	if p.has(at(202)) || !p.has(at(200)) || p.has(at(402)) {
		t.Error("a cut below what is remembered removes all")
	}
}
