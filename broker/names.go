package broker

import (
	"iter"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
)

// maxRun bounds the names of one run of a nameIndex.
const maxRun = 512

// nameIndex is an ordered set of names: those with a prefix are found without a look
// at the others. It holds them in runs, in order within each run and from run to run:
// to add a name moves the names of one run.
//
// Broker.mu guards those of a Broker.
type nameIndex struct {
	runs [][]string // none is empty
}

// find is the run and the place in it where name is, or belongs.
func (x *nameIndex) find(name string) (run, at int, found bool) {
	run, found = slices.BinarySearchFunc(x.runs, name, func(names []string, name string) int {
		return strings.Compare(names[0], name)
	})
	if found {
		return run, 0, true
	}
	if run == 0 {
		return 0, 0, false
	}
	run-- // it begins below name
	at, found = slices.BinarySearch(x.runs[run], name)
	return run, at, found
}

// add adds a name, which must not be in the index.
func (x *nameIndex) add(name string) {
	if len(x.runs) == 0 {
		x.runs = [][]string{{name}}
		return
	}
	run, at, _ := x.find(name)
	names := slices.Insert(x.runs[run], at, name)
	x.runs[run] = names
	if len(names) > maxRun {
		half := len(names) / 2
		second := slices.Clone(names[half:])
		clear(names[half:])
		x.runs[run] = names[:half]
		x.runs = slices.Insert(x.runs, run+1, second)
	}
}

// remove removes a name. Runs that have become small are joined, so that there are
// not many of them.
func (x *nameIndex) remove(name string) {
	run, at, found := x.find(name)
	if !found {
		return
	}
	x.runs[run] = slices.Delete(x.runs[run], at, at+1)
	switch {
	case len(x.runs[run]) == 0:
		x.runs = slices.Delete(x.runs, run, run+1)
	case run+1 < len(x.runs) && len(x.runs[run])+len(x.runs[run+1]) <= maxRun/2:
		x.runs[run] = append(x.runs[run], x.runs[run+1]...)
		x.runs = slices.Delete(x.runs, run+1, run+2)
	}
}

// nameCursor is a place in a nameIndex, which must not change meanwhile.
type nameCursor struct {
	runs [][]string // those from the place on
	at   int        // in the first of them
}

// seek is the place of the first name that does not sort before first.
func (x *nameIndex) seek(first string) nameCursor {
	run, at, _ := x.find(first)
	return nameCursor{x.runs[run:], at}
}

// name is the name at the cursor; false at the end.
func (c *nameCursor) name() (string, bool) {
	for len(c.runs) > 0 && c.at == len(c.runs[0]) {
		c.runs, c.at = c.runs[1:], 0
	}
	if len(c.runs) == 0 {
		return "", false
	}
	return c.runs[0][c.at], true
}

// with iterates over the names that begin with prefix, in order.
func (x *nameIndex) with(prefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for c := x.seek(prefix); ; c.at++ {
			if name, ok := c.name(); !ok || !strings.HasPrefix(name, prefix) || !yield(name) {
				return
			}
		}
	}
}

// mergeNames are the names of channels in two indices that begin with prefix and sort
// after the name after: the first ones up to limit, in order, each once.
func mergeNames(x, y *nameIndex, prefix, after string, limit int) (names []string) {
	first := max(prefix, after)
	cx, cy := x.seek(first), y.seek(first)
	for len(names) < limit {
		a, moreX := cx.name()
		b, moreY := cy.name()
		if !moreX && !moreY {
			break
		}
		name := a
		if !moreX || moreY && b < a {
			name = b
		}
		if moreX && a == name {
			cx.at++
		}
		if moreY && b == name {
			cy.at++
		}
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if name != after && !channel.IsBeneath(name) {
			names = append(names, name)
		}
	}
	return names
}
