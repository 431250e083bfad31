package redisadapter

import (
	"sort"

	"github.com/evstream/caddy-evstream/broker"
)

// maxRing bounds the points that a node remembers.
const maxRing = 64 << 10

// past remembers the entries that were applied last, in their order, so that
// what the node has and what Redis has can be compared.
type ring struct {
	points []point // a ring once it is full
	first  int     // in points: the oldest
	bound  int     // of points
	// forgotten is the newest entry that is not remembered any more.
	forgotten broker.ID
}

func newRing(bound int) ring { return ring{bound: bound} }

// at is the point number i, the oldest first.
func (p *ring) at(i int) *point { return &p.points[(p.first+i)%len(p.points)] }

// add remembers the next entry.
func (p *ring) add(m point) {
	if len(p.points) < p.bound {
		p.points = append(p.points, m)
		return
	}
	oldest := p.at(0)
	p.forgotten, *oldest = oldest.id, m
	p.first = (p.first + 1) % len(p.points)
}

// has reports whether m was applied. Of what was forgotten the id alone has to
// do.
func (p *ring) has(m point) bool {
	if m.id.IsZero() {
		return false
	}
	if m.id.Compare(p.forgotten) <= 0 {
		return true
	}
	i := p.after(m.id)
	return i > 0 && *p.at(i - 1) == m
}

// after is the number of the first point above id.
func (p *ring) after(id broker.ID) int {
	return sort.Search(len(p.points), func(i int) bool { return p.at(i).id.After(id) })
}

// below is the newest point that is known below id, zero if there is none.
func (p *ring) below(id broker.ID) point {
	i := sort.Search(len(p.points), func(i int) bool { return p.at(i).id.Compare(id) >= 0 })
	if i == 0 {
		return point{}
	}
	return *p.at(i - 1)
}

// cut forgets that anything above id was applied.
func (p *ring) cut(id broker.ID) {
	kept := make([]point, p.after(id))
	for i := range kept {
		kept[i] = *p.at(i)
	}
	p.points, p.first = kept, 0
	if p.forgotten.After(id) {
		p.forgotten = id
	}
}
