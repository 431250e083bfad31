package runs

import (
	"container/heap"
	"maps"
)

// index finds what would else be searched for in all runs, for each request: how many a
// caller has, which ended first, and whose owner may be gone. It follows runs, owns, own and
// going of its Table, which says what has changed with update. Table.mu guards it.
type index struct {
	counted map[string]string // the share that each channel with a run or a claim counts in
	shares  map[string]int    // how many there are of each share
	ended   endedRuns
	endedOf map[string]*endedRuns // by share
	strays  map[string]*Run       // unfinished runs that no Owned of this node is for
}

func newIndex() index {
	return index{counted: map[string]string{}, shares: map[string]int{}, endedOf: map[string]*endedRuns{}, strays: map[string]*Run{}}
}

// put has r be the run of a channel; nil: it has none. Table.mu is held.
func (t *Table) put(name string, r *Run) {
	if r == nil {
		delete(t.runs, name)
	} else {
		t.runs[name] = r
	}
	t.update(name)
	t.changes(name)
}

// reindex is update of all channels. Table.mu is held.
func (t *Table) reindex() {
	t.index = newIndex()
	for name := range t.runs {
		t.update(name)
	}
	for name := range t.owns {
		t.update(name)
	}
	known := make(map[string]bool)
	for _, r := range t.index.strays {
		known[r.ID] = true
	}
	maps.DeleteFunc(t.unended, func(id string, _ end) bool { return !known[id] && t.own[id] == nil })
}

// update takes in what has changed about the run of a channel. Table.mu is held.
func (t *Table) update(name string) {
	r, o := t.runs[name], t.owns[name]
	share, counts := "", true
	switch {
	case r != nil && !t.going[r.ID]:
		share = r.Share
	case o != nil: // a claim that the log does not have yet
		share = o.run.Share
	default:
		counts = false
	}
	t.index.count(name, share, counts)
	if t.mayBeForgotten(r) {
		t.index.add(t, r)
	}
	_, was := t.index.strays[name]
	if r == nil || r.State.Ended() || t.own[r.ID] != nil && r.Owner == t.owner {
		if stray := t.index.strays[name]; stray != nil {
			delete(t.unended, stray.ID)
		}
		delete(t.index.strays, name)
		return
	}
	t.index.strays[name] = r
	if !was || r.Owner == t.owner {
		t.wake()
	}
}

// mayBeForgotten reports whether a run is kept, and nothing is about to take its place.
// Table.mu is held.
func (t *Table) mayBeForgotten(r *Run) bool {
	return r != nil && r.State.Ended() && t.runs[r.Channel] == r && !t.going[r.ID] && t.owns[r.Channel] == nil
}

func (x *index) count(name, share string, counts bool) {
	was, did := x.counted[name]
	if did == counts && was == share {
		return
	}
	if did {
		if x.shares[was]--; x.shares[was] == 0 {
			delete(x.shares, was)
			delete(x.endedOf, was)
		}
		delete(x.counted, name)
	}
	if counts {
		x.counted[name] = share
		x.shares[share]++
	}
}

// add adds a run that may be forgotten.
func (x *index) add(t *Table, r *Run) {
	x.ended.add(t, r, len(x.counted))
	if r.Share == "" {
		return // nobody's share
	}
	of := x.endedOf[r.Share]
	if of == nil {
		of = new(endedRuns)
		x.endedOf[r.Share] = of
	}
	of.add(t, r, x.shares[r.Share])
}

// oldest reports whether at least most runs are counted besides that of a channel, of a share
// or, with "", of all, and finds the one of them that ended first.
func (t *Table) oldest(share string, most int, except string) (oldest *Run, full bool) {
	n, ended := len(t.index.counted), &t.index.ended
	of, counts := t.index.counted[except]
	if share != "" {
		n, ended = t.index.shares[share], t.index.endedOf[share]
		counts = counts && of == share
	}
	if counts {
		n--
	}
	if n < most || ended == nil {
		return nil, n >= most
	}
	return ended.first(t, except), true
}

// endedRuns are runs in the order in which they have ended, the first on top. What may not
// be forgotten any more is left in it until it is on top, or there is much of it.
type endedRuns []*Run

func (e endedRuns) Len() int           { return len(e) }
func (e endedRuns) Less(i, j int) bool { return e[i].Ended.Before(e[j].Ended) }
func (e endedRuns) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endedRuns) Push(r any)        { *e = append(*e, r.(*Run)) }

// Pop implements heap.Interface.
func (e *endedRuns) Pop() any {
	last := len(*e) - 1
	r := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return r
}

// add adds a run to those of which about most are right. Table.mu is held.
func (e *endedRuns) add(t *Table, r *Run, most int) {
	if heap.Push(e, r); len(*e) < 2*most+64 {
		return
	}
	seen, kept := make(map[*Run]bool, most), (*e)[:0]
	for _, r := range *e {
		if t.mayBeForgotten(r) && !seen[r] {
			seen[r] = true
			kept = append(kept, r)
		}
	}
	clear((*e)[len(kept):])
	*e = kept
	heap.Init(e)
}

// first is the run that ended first and may be forgotten, but not that of a channel; nil for
// none. Table.mu is held.
func (e *endedRuns) first(t *Table, except string) *Run {
	var spared *Run
	defer func() {
		if spared != nil {
			heap.Push(e, spared)
		}
	}()
	for len(*e) > 0 {
		switch r := (*e)[0]; {
		case t.mayBeForgotten(r) && r.Channel != except:
			return r
		case t.mayBeForgotten(r):
			spared = r
		}
		heap.Pop(e)
	}
	return nil
}
