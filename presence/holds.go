package presence

import (
	"container/heap"
	"time"
)

// maxHeld bounds the holds of one share, and maxHolds those of all. Who is over a
// bound leaves at once.
const (
	maxHeld  = 1000
	maxHolds = 1_000_000
)

// hold keeps a member, or a session without a user, that has left a room in it until
// its grace is over.
type hold struct {
	at    time.Time
	room  *room
	user  string // "" for a session without one
	share string
}

// holds is a heap of them, the first to end on top.
type holds []hold

func (h holds) Len() int           { return len(h) }
func (h holds) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h holds) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *holds) Push(x any)        { *h = append(*h, x.(hold)) }
func (h *holds) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = hold{}
	*h = old[:len(old)-1]
	return last
}

// hold adds a hold, unless a bound is reached.
func (t *Table) hold(h hold, now time.Time) bool {
	if len(t.holds) >= maxHolds || h.share != "" && t.heldBy[h.share] >= maxHeld {
		return false
	}
	if h.share != "" {
		t.heldBy[h.share]++
	}
	heap.Push(&t.holds, h)
	if h.at.Before(t.armed) {
		t.wake(now)
	}
	return true
}

// endHolds ends the holds that are over.
func (t *Table) endHolds(now time.Time) {
	for len(t.holds) > 0 && !t.holds[0].at.After(now) {
		h := heap.Pop(&t.holds).(hold)
		if t.endHold(&h, now) {
			heap.Push(&t.holds, h)
			continue
		}
		if h.share != "" {
			if t.heldBy[h.share]--; t.heldBy[h.share] == 0 {
				delete(t.heldBy, h.share)
			}
		}
	}
}

// endHold ends a hold, or reports that it has to last longer and until when.
func (t *Table) endHold(h *hold, now time.Time) (longer bool) {
	r := h.room
	switch {
	case t.rooms[r.name] != r:
		return false
	case h.user == "" && r.unnamedBack > 0:
		r.unnamedBack--
	case h.user == "":
		r.unnamedHeld--
		t.unnamed--
		t.changedUnnamed(r, now)
	default:
		m := r.members[h.user]
		if m.own.sessions == 0 && m.until.After(now) {
			h.at = m.until
			return true
		}
		m.queued = false
		if m.own.sessions == 0 {
			t.removeOwn(r, h.user, m, now)
			t.changedOwn(r, h.user, now)
		}
	}
	t.sweep(r)
	return false
}
