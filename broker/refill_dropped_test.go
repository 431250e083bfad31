package broker

import "testing"

// A pattern that has dropped what it was refilled with is refilled up to what it has. It
// took up where the refill before it had begun, and had a hole.
func TestARefillReachesWhatThePatternHasDropped(t *testing.T) {
	b := newBroker(t)
	first := publish(t, b, "a/x", "1")
	publish(t, b, "a/y", "2")
	publish(t, b, "a/x", "3")
	s := subscribe(t, b, Start{}, "a/*")
	publish(t, b, "a/x", "4")
	publish(t, b, "a/y", "5")
	expect(t, subscribe(t, b, Start{LastEventID: first.String()}, "a/*"), "2 3 4 5")
	b.mu.Lock()
	p := b.patterns["a/*"]
	b.dropOldest(p) // to make room for others
	if n := p.count(); n != 2 {
		t.Errorf("%d events are left, want those that it did not get from the channels", n)
	}
	b.mu.Unlock()
	early := subscribe(t, b, Start{Earliest: true}, "a/*")
	expect(t, early, "1 2 3 4 5")
	if r := early.Replay(); !r.Complete {
		t.Errorf("the replay is not complete: %+v", r)
	}
	expect(t, s, "4 5")
}
