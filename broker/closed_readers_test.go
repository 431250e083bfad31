package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

// newClosing makes a broker whose channels are closed for minClosed.
func newClosing(t *testing.T) *Broker {
	return newBroker(t, func(c *Config) { c.History = Policy{Events: 10, Age: time.Second, Bytes: 1 << 20} })
}

// endsTold reads what a reader is told of closed channels.
func endsTold(t *testing.T, sub *Subscription) (names string, end bool) {
	t.Helper()
	var batch Batch
	for batch.More = true; batch.More; {
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range batch.Closed {
		names += c.Channel
	}
	return names, batch.End
}

func TestACloseWithoutAnEventWakesWhoWaits(t *testing.T) {
	b := newClosing(t)
	sub := subscribe(t, b, Start{}, "a")
	if names, end := endsTold(t, sub); names != "" || end {
		t.Fatalf("told of the end of %q (%v) before it", names, end)
	}
	publishAll(t, b, closeOp("a", ""))
	select {
	case <-sub.Wake():
	default:
		t.Error("nobody was woken")
	}
	if names, end := endsTold(t, sub); names != "a" || !end {
		t.Errorf("told of the end of %q (%v), want a, and that there is nothing else", names, end)
	}
}

// TestAChannelClosedAnewCountsOnce is about a channel whose time is over, and that nobody
// has opened yet: the last close counts, in the share of who did it.
func TestAChannelClosedAnewCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newClosing(t)
		time.Sleep(time.Second) // its time is over between two sweeps
		op := closeOp("a", "")
		op.Owner = 1
		publishAll(t, b, op)
		time.Sleep(minClosed)
		synctest.Wait()
		if b.closedNow.byName["a"] == nil {
			t.Fatal("it was opened before it is closed anew")
		}
		op.Owner = 2
		publishAll(t, b, op)
		if own := b.owners.byID[1]; own != nil {
			t.Errorf("who closed it first is counted: %+v", own)
		}
		if own := b.owners.byID[2]; own == nil || own.closed != 1 {
			t.Errorf("who closed it last: %+v, want one channel", own)
		}
	})
}

func TestASweepOpensTheChannelsWhoseTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newClosing(t)
		sub := subscribe(t, b, Start{}, "a", "b")
		time.Sleep(sweepEvery / 2) // so that one sweep finds both over
		for _, name := range []string{"a", "c"} {
			op := closeOp(name, "")
			op.Owner = 1
			publishAll(t, b, op)
		}
		if names, end := endsTold(t, sub); names != "a" || end {
			t.Fatalf("told of the end of %q (%v), want a", names, end)
		}
		time.Sleep(minClosed + sweepEvery)
		synctest.Wait()
		if n, own := len(b.closedNow.byName), b.owners.byID[1]; n != 0 || own != nil {
			t.Errorf("kept of them: %d, and of who closed them: %+v", n, own)
		}
		publishAll(t, b, closeOp("b", ""))
		if names, end := endsTold(t, sub); names != "b" || end {
			t.Errorf("told of the end of %q (%v), want b, while a is open", names, end)
		}
	})
}

// TestAnEventOpensWhatIsNotClosedAnyMore is about the entries of a log that has found a
// channel open, by its own clock.
func TestAnEventOpensWhatIsNotClosedAnyMore(t *testing.T) {
	b := newClosing(t)
	event := func(id ID, name string) Entry {
		return Entry{ID: id, Version: EntryVersion, Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte("x")}}
	}
	closing := func(id ID, name string, lasts time.Duration) Entry {
		return Entry{ID: id, Version: EntryVersion, Kind: KindClose, Channel: name, Close: &CloseEntry{For: lasts}}
	}
	at := func(after time.Duration) ID { return ID{b.Head().Ms + uint64(after/time.Millisecond), 0} }
	first, over := at(time.Second), at(3*time.Second)
	ever, while := ID{first.Ms, 1}, ID{over.Ms - 1, 0}
	b.apply([]Entry{closing(first, "a", 2*time.Second), closing(ever, "b", 0)})
	b.apply([]Entry{event(while, "a")})
	if b.closedNow.byName["a"] == nil {
		t.Error("an event opened it before its time was over")
	}
	b.apply([]Entry{event(over, "a"), event(ID{over.Ms, 1}, "b")})
	if c := b.closedNow.byName["a"]; c != nil {
		t.Errorf("it is closed by %s still", c.id)
	}
	if b.closedNow.byName["b"] == nil {
		t.Error("an event opened what only a purge opens")
	}
}
