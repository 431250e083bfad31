package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

var closedTests = map[string]func(*testing.T, Harness){
	"a closed channel takes no event and no value":                 testClosedRefuses,
	"a channel is closed once":                                     testClosedOnce,
	"a key gives the answer of a closing back":                     testClosedKeys,
	"a purge opens a channel":                                      testClosedPurged,
	"operations of one append see what is closed in it":            testClosedBatch,
	"a channel opens when its time is over":                        testClosedOver,
	"how many channels may be closed is bounded":                   testClosedBounded,
	"an entry of a closing carries the last event":                 testClosedEntries,
	"of those who publish while it closes none comes late":         testClosedRace,
	"what is followed again has the closed channels":               testClosedFollowed,
	"what is retained has the closed channels when it is reopened": testClosedRetained,
}

func closing(channel, last string) broker.Op {
	op := broker.Op{Kind: broker.KindClose, Channel: channel, Close: &broker.CloseOp{}}
	if last != "" {
		op.Event, op.Close.Event = sse.Event{Type: "t", Data: []byte(last)}, true
	}
	return op
}

func purge(channel string) broker.Op { return broker.Op{Kind: broker.KindPurge, Channel: channel} }

// tooLate fails unless an operation was refused because its channel is closed.
func tooLate(t *testing.T, what string, r broker.Result) {
	t.Helper()
	if !errors.Is(r.Err, broker.ErrChannelClosed) || !r.ID.IsZero() {
		t.Errorf("%s: %+v, want that the channel is closed", what, r)
	}
}

// stored fails unless an operation was stored.
func stored(t *testing.T, what string, r broker.Result) {
	t.Helper()
	if r.Err != nil || r.ID.IsZero() || r.Unchanged {
		t.Errorf("%s: %+v, want that it is stored", what, r)
	}
}

func testClosedRefuses(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	long := strings.Repeat("long/", 50) + "name" // its length takes two bytes
	appendAll(t, log, set("a", "1"), closing("a", "last"), closing(long, ""))
	r := appendAll(t, log,
		event("a", "2"), keyed(event("a", "2"), "me", "k"), set("a", "2"), set("a", "1"), event(long, "2"), set(long, "2"))
	for i := range r {
		tooLate(t, fmt.Sprint("operation ", i), r[i])
	}
	r = appendAll(t, log, event("b", "1"), event("a/", "1"), event("a/b", "1"), set("b", "1"), set("a", ""), event(long[:len(long)-1], "1"))
	for i := range r {
		stored(t, fmt.Sprint("another operation ", i), r[i])
	}
	if all := f.wait(t, 9); len(all) != 9 {
		t.Errorf("%d entries, want 9: %+v", len(all), all)
	}
}

func testClosedOnce(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	first := appendAll(t, log, closing("a", ""))[0]
	stored(t, "closing", first)
	r := appendAll(t, log, closing("a", ""), closing("a", "late"), keyed(closing("a", ""), "me", "k"), keyed(closing("a", ""), "me", "k"))
	for _, i := range []int{0, 2, 3} {
		if r[i].Err != nil || r[i].ID != first.ID || r[i].Unchanged == (i == 3) || r[i].Repeated != (i == 3) {
			t.Errorf("closing again, %d: %+v, want %s", i, r[i], first.ID)
		}
	}
	tooLate(t, "closing with an event", r[1])
	if all := f.wait(t, 1); len(all) != 1 {
		t.Errorf("entries %+v, want one", all)
	}
}

func testClosedKeys(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	op := keyed(closing("a", "last"), "me", "k")
	first, published := appendAll(t, log, op)[0], keyed(event("b", "1"), "me", "e")
	stored(t, "closing", first)
	if r := appendAll(t, log, keyed(closing("a", "last"), "me", "k"))[0]; !r.Repeated || r.ID != first.ID || r.Err != nil {
		t.Errorf("closing again with the key: %+v, want %s", r, first.ID)
	}
	for what, other := range map[string]broker.Op{"another last event": closing("a", "other"), "none": closing("a", ""), "an event": event("a", "last")} {
		if r := appendAll(t, log, keyed(other, "me", "k"))[0]; !errors.Is(r.Err, broker.ErrKeyReused) {
			t.Errorf("%s with the key: %+v, want that it was used", what, r)
		}
	}
	before := appendAll(t, log, published)[0]
	appendAll(t, log, closing("b", ""))
	if r := appendAll(t, log, published)[0]; !r.Repeated || r.ID != before.ID {
		t.Errorf("a key from before the closing: %+v, want %s", r, before.ID)
	}
	if all := f.wait(t, 3); len(all) != 3 {
		t.Errorf("entries %+v, want 3", all)
	}
}

func testClosedPurged(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	appendAll(t, log, closing("a", "last"), closing("b", ""), purge("a"))
	r := appendAll(t, log, event("a", "1"), set("a", "1"), closing("a", "again"), event("b", "1"))
	for i := range r[:3] {
		stored(t, fmt.Sprint("operation ", i, " after the purge"), r[i])
	}
	tooLate(t, "what was not purged", r[3])
	tooLate(t, "what is closed again", appendAll(t, log, event("a", "2"))[0])
}

func testClosedBatch(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	r := appendAll(t, log, event("a", "1"), closing("a", "2"), event("a", "3"), purge("a"), set("a", "4"), closing("a", ""), closing("a", ""))
	for _, i := range []int{0, 1, 3, 4, 5} {
		stored(t, fmt.Sprint("operation ", i), r[i])
	}
	tooLate(t, "operation 2", r[2])
	if !r[6].Unchanged || r[6].ID != r[5].ID {
		t.Errorf("operation 6: %+v, want %s unchanged", r[6], r[5].ID)
	}
	if all := f.wait(t, 5); len(all) != 5 {
		t.Errorf("entries %+v, want 5", all)
	}
}

func testClosedOver(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	op := closing("a", "")
	op.Close.For, op.Close.Count = 100*time.Millisecond, 1
	first := appendAll(t, log, op)[0]
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		r := appendAll(t, log, event("a", "x"))[0]
		if r.Err != nil {
			tooLate(t, "within the time", r)
			if time.Now().After(deadline) {
				t.Fatalf("the channel is closed after %s, and was to be for 100 ms", patience)
			}
			continue
		}
		if d := r.ID.Ms - first.ID.Ms; d < 100 {
			t.Errorf("it opened after %d ms, want 100", d)
		}
		break
	}
	op.Channel = "b"
	stored(t, "closing another where one was over", appendAll(t, log, op)[0])
}

func testClosedBounded(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	bounded := func(channel string) broker.Op {
		op := closing(channel, "last")
		op.Close.Count = 2
		return op
	}
	r := appendAll(t, log, bounded("a"), bounded("b"), bounded("c"), event("c", "1"))
	if stored(t, "the second", r[1]); !errors.Is(r[2].Err, broker.ErrTooManyClosed) {
		t.Errorf("one too many: %+v, want that it is refused", r[2])
	}
	stored(t, "what was not closed", r[3])
	appendAll(t, log, purge("a"))
	stored(t, "when another was opened", appendAll(t, log, bounded("c"))[0])
}

func testClosedEntries(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	op := closing("a", "last")
	op.Filter = &broker.Filter{To: []string{"user:a", "claim:b=c"}, Except: []string{"user:d"}}
	op.Event.ID, op.Event.Retry, op.Except, op.Close.For = "own", 5, "s", time.Hour
	r := appendAll(t, log, op, closing("b", ""))
	all := f.wait(t, 2)
	e, bare := all[0], all[1]
	if e.ID != r[0].ID || e.Kind != broker.KindClose || e.Channel != "a" || e.Close == nil || *e.Close != (broker.CloseEntry{Event: true, For: time.Hour}) ||
		e.Event.Type != "t" || e.Event.ID != "own" || e.Event.Retry != 5 || string(e.Event.Data) != "last" || e.Except != "s" ||
		e.Filter == nil || !slices.Equal(e.Filter.To, op.Filter.To) || !slices.Equal(e.Filter.Except, op.Filter.Except) {
		t.Errorf("the entry is %+v %+v", e, e.Close)
	}
	if bare.Kind != broker.KindClose || bare.Channel != "b" || bare.Close == nil || *bare.Close != (broker.CloseEntry{}) || len(bare.Event.Data) > 0 {
		t.Errorf("the entry without an event is %+v %+v", bare, bare.Close)
	}
}

func testClosedRace(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	var wg sync.WaitGroup
	var mu sync.Mutex
	late := 0
	for range 4 {
		wg.Go(func() {
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
				r, err := log.Append(context.Background(), []broker.Op{event("a", "x")})
				if err != nil {
					t.Error(err)
					return
				}
				if r[0].Err != nil {
					tooLate(t, "an event that is late", r[0])
					mu.Lock()
					late++
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Go(func() {
		f.wait(t, 8)
		appendAll(t, log, closing("a", "last"))
	})
	wg.Wait()
	all := f.all()
	if end := all[len(all)-1]; end.Kind != broker.KindClose || late != 4 {
		t.Errorf("the last entry is %+v, and %d of 4 publishers were late", end, late)
	}
	for _, e := range all[:len(all)-1] {
		if e.Kind != broker.KindEvent {
			t.Errorf("there is an entry %+v", e)
		}
	}
}

// closedOf is what a follower knows to be closed: by which entries.
func (f *follower) closedOf() map[string]broker.ID {
	closed := map[string]broker.ID{}
	for _, e := range f.origin.Closed {
		closed[e.Channel] = e.ID
	}
	for _, e := range f.all() {
		switch {
		case !e.ID.After(closed[e.Channel]):
		case e.Kind == broker.KindClose:
			closed[e.Channel] = e.ID
		case e.Kind == broker.KindPurge:
			delete(closed, e.Channel)
		}
	}
	return closed
}

// closeSome closes channels and opens one of them.
func closeSome(t *testing.T, log broker.Log) map[string]broker.ID {
	lasting := closing("b", "")
	lasting.Close.For = time.Hour
	r := appendAll(t, log, closing("a", "last"), lasting, closing("c", ""), purge("c"), event("c", "x"))
	return map[string]broker.ID{"a": r[0].ID, "b": r[1].ID}
}

func (f *follower) knowsClosed(t *testing.T, want map[string]broker.ID) {
	t.Helper()
	if got := f.closedOf(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("closed are %v, want %v", got, want)
	}
	for _, e := range f.origin.Closed {
		if e.Kind != broker.KindClose || e.Close == nil || e.Channel == "b" && e.Close.For != time.Hour || e.Channel == "a" && e.Close.For != 0 {
			t.Errorf("the origin has %+v %+v", e, e.Close)
		}
	}
}

func testClosedFollowed(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	want := closeSome(t, log)
	f.wait(t, 5)
	_ = f.end()
	follow(t, log).knowsClosed(t, want)
	tooLate(t, "an event", appendAll(t, log, event("a", "x"))[0])
}

func testClosedRetained(t *testing.T, h Harness) {
	if h.Reopen == nil {
		return
	}
	log := open(t, h)
	f := follow(t, log)
	want := closeSome(t, log)
	f.wait(t, 5)
	_ = f.end()
	log = h.Reopen(t, log)
	t.Cleanup(func() { _ = log.Close() })
	follow(t, log).knowsClosed(t, want)
	r := appendAll(t, log, event("a", "x"), set("b", "1"), event("c", "x"))
	tooLate(t, "an event", r[0])
	tooLate(t, "a value", r[1])
	stored(t, "what was opened", r[2])
}
