package runs

import (
	"slices"
	"time"
)

// unknownFor is how long an owner may be unknown that was never seen among the nodes: a node
// begins runs as soon as it has started, and others ask who is there every two seconds.
const unknownFor = 5 * time.Second

// owners are those of unfinished runs, with the time since when each is missing among the
// nodes; the zero time for one that was there.
type owners map[string]time.Time

// look takes in who is there, and says of each owner whether it is gone. Those that are not
// asked about until the next look are forgotten.
func (o *owners) look(members []string, now time.Time) (gone func(owner string) bool) {
	was := *o
	*o = make(owners)
	return func(owner string) bool {
		if slices.Contains(members, owner) {
			(*o)[owner] = time.Time{}
			return false
		}
		since, known := was[owner]
		if !known {
			since = now
		}
		(*o)[owner] = since
		return since.IsZero() || now.Sub(since) >= unknownFor
	}
}
