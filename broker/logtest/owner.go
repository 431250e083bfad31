package logtest

import (
	"slices"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// testOwners: what an operation adds is told with its owner, so that every node counts
// it in the same share.
func testOwners(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	const ada, ben = broker.Owner(7), broker.Owner(1<<64 - 1)
	of := func(op broker.Op, id broker.Owner) broker.Op {
		op.Owner = id
		return op
	}
	keyed := of(event("b", "3"), ada)
	keyed.Key = broker.Key{Key: "k"}
	appendAll(t, log, of(event("a", "1"), ada), event("a", "2"), of(set("v", "1"), ben), keyed, of(set("v", "2"), ada), set("w", "1"))
	appendAll(t, log, of(keyed, ben)) // the same operation: it is not done again
	var owners []broker.Owner
	for _, e := range f.wait(t, 6) {
		owners = append(owners, e.Owner)
	}
	if want := []broker.Owner{ada, 0, ben, ada, ada, 0}; !slices.Equal(owners, want) {
		t.Errorf("the owners of the entries are %v, want %v", owners, want)
	}
}
