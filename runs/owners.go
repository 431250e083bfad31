package runs

import (
	"slices"
	"time"
)

// unknownFor is how long an owner may be unknown that was never seen among the nodes: a node
// begins runs as soon as it has started, and others ask who is there every two seconds.
const unknownFor = 5 * time.Second

// owners are those of unfinished runs, with the time since when each is known; the zero time
// for one that was seen among the nodes.
type owners map[string]time.Time

// look takes in who is there, if that is known, and says of each owner whether it is gone.
// Those that are not asked about until the next look are forgotten.
func (o *owners) look(members []string, known bool, now time.Time) (gone func(owner string) bool) {
	was := *o
	*o = make(owners)
	return func(owner string) bool {
		since, old := was[owner]
		switch {
		case known && slices.Contains(members, owner):
			since = time.Time{}
		case !old:
			since = now
		}
		(*o)[owner] = since
		return known && !slices.Contains(members, owner) && (since.IsZero() || now.Sub(since) >= unknownFor)
	}
}
