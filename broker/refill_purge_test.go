package broker

import (
	"context"
	"testing"
)

// A purge empties the patterns that hold what it removes. Their readers find their places
// again, and those that had read everything look at no channel for that.
func TestAPurgeRefillsNoPatternForWhoHasReadAll(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a/*")
	publish(t, b, "a/x", "1")
	publish(t, b, "a/y", "2")
	expect(t, s, "1 2")
	before := b.looked
	if _, err := b.Publish(context.Background(), []Op{{Kind: KindPurge, Channel: "a/x"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "")
	publish(t, b, "a/x", "3")
	expect(t, s, "3")
	if n := b.looked - before; n != 0 {
		t.Errorf("%d names and events were looked at", n)
	}
	expect(t, subscribe(t, b, Start{Earliest: true}, "a/*"), "2 3")
}
