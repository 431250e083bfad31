package entry

import (
	"sort"

	"github.com/evstream/caddy-evstream/broker"
)

// MaxRing bounds the entries that a node remembers.
const MaxRing = 64 << 10

// Ring remembers the newest entries that were applied, in order, to compare them
// with those that Redis has.
type Ring struct {
	points []Point // a ring buffer once it is full
	first  int     // index of the oldest
	bound  int     // of the length of points
	// forgotten is the newest entry that is no longer remembered.
	forgotten broker.ID
}

// NewRing returns a Ring of at most so many entries.
func NewRing(bound int) Ring { return Ring{bound: bound} }

// at is point i, counted from the oldest.
func (p *Ring) at(i int) *Point { return &p.points[(p.first+i)%len(p.points)] }

// Add remembers the next entry.
func (p *Ring) Add(m Point) {
	if len(p.points) < p.bound {
		p.points = append(p.points, m)
		return
	}
	oldest := p.at(0)
	p.forgotten, *oldest = oldest.ID, m
	p.first = (p.first + 1) % len(p.points)
}

// Has reports whether m was applied. Below forgotten it can go by the id alone,
// and returns true.
func (p *Ring) Has(m Point) bool {
	if m.ID.IsZero() {
		return false
	}
	if m.ID.Compare(p.forgotten) <= 0 {
		return true
	}
	i := p.after(m.ID)
	return i > 0 && *p.at(i - 1) == m
}

// after is the index of the first point above id, counted from the oldest.
func (p *Ring) after(id broker.ID) int {
	return sort.Search(len(p.points), func(i int) bool { return p.at(i).ID.After(id) })
}

// Below is the newest point below id, zero if none is remembered.
func (p *Ring) Below(id broker.ID) Point {
	i := sort.Search(len(p.points), func(i int) bool { return p.at(i).ID.Compare(id) >= 0 })
	if i == 0 {
		return Point{}
	}
	return *p.at(i - 1)
}

// Cut removes all points above id.
func (p *Ring) Cut(id broker.ID) {
	kept := make([]Point, p.after(id))
	for i := range kept {
		kept[i] = *p.at(i)
	}
	p.points, p.first = kept, 0
	if p.forgotten.After(id) {
		p.forgotten = id
	}
}
