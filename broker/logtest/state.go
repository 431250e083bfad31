package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// How a log decides operations on state.
var stateTests = map[string]func(*testing.T, Harness){
	"a value that is equal changes nothing":               testStateEqual,
	"a condition is decided by what the log has":          testStateConditions,
	"a value can be removed, once":                        testStateRemoved,
	"operations of one append see each other":             testStateBatch,
	"a key gives the first answer of a write back":        testStateKeys,
	"of those who compare the same version, one wins":     testStateCompareAndSet,
	"a value that was written again is not idle":          testStateIdle,
	"what is followed again has the values":               testStateFollowed,
	"bounds on values refuse what is over, and no more":   testStateBounds,
	"entries carry what was set and what it was bound to": testStateEntries,
	"a value goes with the last session it is bound to":   testStateBindings,
	"what a value can be bound to is bounded":             testStateBindingsBounded,
	"what is retained has its values when it is reopened": testStateRetained,
}

func set(channel, value string, condition ...broker.Condition) broker.Op {
	op := broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{Value: []byte(value)}}
	if value == "" {
		op.State.Value = nil
	}
	if len(condition) > 0 {
		op.State.If = condition[0]
	}
	return op
}

func is(kind broker.ConditionKind, versions ...broker.ID) broker.Condition {
	return broker.Condition{Kind: kind, Versions: versions}
}

// did appends one operation that is not refused.
func did(t *testing.T, log broker.Log, op broker.Op) broker.Result {
	t.Helper()
	r := appendAll(t, log, op)[0]
	if r.Err != nil {
		t.Fatalf("%s is refused: %v", op.State.Value, r.Err)
	}
	return r
}

// refused appends one operation whose condition does not hold, and returns the
// state that the channel has.
func refused(t *testing.T, log broker.Log, op broker.Op) broker.State {
	t.Helper()
	r := appendAll(t, log, op)[0]
	if !errors.Is(r.Err, broker.ErrStateMismatch) || r.State == nil {
		t.Fatalf("got %+v, want ErrStateMismatch and the value", r)
	}
	return *r.State
}

func testStateEqual(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	first := did(t, log, set("a", `{"a":1,"b":[2,null]}`))
	if !first.Created || first.Unchanged {
		t.Errorf("the first write is %+v", first)
	}
	for _, same := range []string{`{"a":1,"b":[2,null]}`, `{"b":[2.0,null],"a":1e0}`} {
		if r := did(t, log, set("a", same)); !r.Unchanged || r.Created || r.ID != first.ID {
			t.Errorf("%s is %+v, want version %s unchanged", same, r, first.ID)
		}
	}
	second := did(t, log, set("a", `{"a":1,"b":[2]}`))
	if second.Unchanged || second.Created || !second.ID.After(first.ID) {
		t.Errorf("another value is %+v", second)
	}
	if all := f.wait(t, 2); len(all) != 2 || all[1].ID != second.ID {
		t.Errorf("entries %+v", all)
	}
	if big := did(t, log, set("a", "9223372036854775808")); did(t, log, set("a", "9223372036854775809")).ID == big.ID {
		t.Error("2^63 is taken for the number after it")
	}
}

func testStateConditions(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	var old broker.ID
	if s := refused(t, log, set("a", "1", is(broker.IfPresent))); s.Value != nil || !s.Version.IsZero() {
		t.Errorf("there is %+v", s)
	}
	refused(t, log, set("a", "1", is(broker.IfVersion, broker.ID{Ms: 1})))
	did(t, log, set("b", "1", is(broker.IfNotVersion, broker.ID{Ms: 1})))
	old = did(t, log, set("a", "1", is(broker.IfAbsent))).ID
	if s := refused(t, log, set("a", "2", is(broker.IfAbsent))); string(s.Value) != "1" || s.Version != old {
		t.Errorf("there is %+v, want 1 of %s", s, old)
	}
	refused(t, log, set("a", "1", is(broker.IfAbsent))) // even if it is equal
	refused(t, log, set("a", "2", is(broker.IfNotVersion, old)))
	refused(t, log, set("a", "2", is(broker.IfNever)))
	now := did(t, log, set("a", "2", is(broker.IfVersion, broker.ID{Ms: 1}, old))).ID
	if s := refused(t, log, set("a", "3", is(broker.IfVersion, old))); string(s.Value) != "2" || s.Version != now {
		t.Errorf("there is %+v, want 2 of %s", s, now)
	}
	did(t, log, set("a", "3", is(broker.IfPresent)))
	did(t, log, set("a", "4", is(broker.IfNotVersion, now)))
}

func testStateRemoved(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	refused(t, log, set("a", ""))
	old := did(t, log, set("a", "null")).ID
	refused(t, log, set("a", "", is(broker.IfVersion, broker.ID{Ms: 1})))
	gone := did(t, log, set("a", "", is(broker.IfVersion, old)))
	if !gone.ID.After(old) {
		t.Errorf("%s was removed by %s", old, gone.ID)
	}
	refused(t, log, set("a", ""))
	if r := did(t, log, set("a", "null", is(broker.IfAbsent))); !r.Created || !r.ID.After(gone.ID) {
		t.Errorf("after it was removed, a write is %+v", r)
	}
	all := f.wait(t, 3)
	if len(all) != 3 || string(all[0].State.Value) != "null" || all[1].State.Value != nil || all[1].ID != gone.ID {
		t.Errorf("entries %+v", all)
	}
}

func testStateBatch(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	r := appendAll(t, log,
		set("a", "1"), set("a", "1.0"), set("a", "2", is(broker.IfAbsent)), event("a", "x"), set("a", "2", is(broker.IfPresent)), set("b", "1"))
	if !r[0].Created || !r[1].Unchanged || r[1].ID != r[0].ID || !errors.Is(r[2].Err, broker.ErrStateMismatch) || r[4].Err != nil || !r[5].Created {
		t.Errorf("results %+v", r)
	}
	all := f.wait(t, 4)
	for i, want := range []broker.ID{r[0].ID, r[3].ID, r[4].ID, r[5].ID} {
		if len(all) != 4 || all[i].ID != want {
			t.Fatalf("entries %+v", all)
		}
	}
}

func testStateKeys(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	key := func(op broker.Op) broker.Op { return keyed(op, "me", "k") }
	first := did(t, log, key(set("a", "1", is(broker.IfAbsent))))
	did(t, log, set("a", "2"))
	again := did(t, log, key(set("a", "1", is(broker.IfAbsent))))
	if !again.Repeated || again.ID != first.ID || !again.Created {
		t.Errorf("the second answer is %+v, the first was %+v", again, first)
	}
	for name, op := range map[string]broker.Op{
		"value":     set("a", "3", is(broker.IfAbsent)),
		"none":      set("a", "", is(broker.IfAbsent)),
		"condition": set("a", "1"),
		"channel":   set("b", "1", is(broker.IfAbsent)),
	} {
		if r := appendAll(t, log, key(op))[0]; !errors.Is(r.Err, broker.ErrKeyReused) {
			t.Errorf("another %s: %+v, want ErrKeyReused", name, r)
		}
	}

	asked := func(value, ask string) broker.Op {
		op := keyed(set("a", value), "me", "patch")
		op.State.Asked, op.State.Answer = []byte(ask), true
		return op
	}
	first = did(t, log, asked("3", "incr"))
	never := asked("", "incr")
	never.State.If = is(broker.IfNever)
	for _, op := range []broker.Op{asked("4", "incr"), never} {
		r := did(t, log, op)
		if !r.Repeated || r.ID != first.ID || r.State == nil || string(r.State.Value) != "3" {
			t.Errorf("the second answer is %+v, the first was %+v", r, first)
		}
	}
	if r := appendAll(t, log, asked("4", "decr"))[0]; !errors.Is(r.Err, broker.ErrKeyReused) {
		t.Errorf("what was asked is another: %+v, want ErrKeyReused", r)
	}

	// The key of a refused operation is not remembered.
	op := keyed(set("c", "1", is(broker.IfPresent)), "me", "r")
	refused(t, log, op)
	did(t, log, set("c", "0"))
	if r := did(t, log, keyed(set("c", "1", is(broker.IfPresent)), "me", "r")); r.Repeated {
		t.Errorf("what was refused is repeated: %+v", r)
	}
	if all := f.wait(t, 5); len(all) != 5 {
		t.Errorf("%d entries, want 5", len(all))
	}
}

func testStateCompareAndSet(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	start := did(t, log, set("a", "0"))
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			now := broker.State{Value: []byte("0"), Version: start.ID}
			for n := 0; n < each; {
				var value int
				_, _ = fmt.Sscan(string(now.Value), &value)
				r, err := log.Append(context.Background(), []broker.Op{set("a", fmt.Sprint(value+1), is(broker.IfVersion, now.Version))})
				switch {
				case err != nil:
					t.Error(err)
					return
				case r[0].Err == nil:
					n++
					now = broker.State{Value: fmt.Append(nil, value+1), Version: r[0].ID}
				case r[0].State == nil:
					t.Errorf("refused with %+v", r[0])
					return
				default:
					now = *r[0].State
				}
			}
		})
	}
	wg.Wait()
	for i, e := range f.wait(t, 1+writers*each) {
		if string(e.State.Value) != fmt.Sprint(i) {
			t.Fatalf("entry %d is %s", i, e.State.Value)
		}
	}
}

func testStateIdle(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	v := did(t, log, set("a", "1")).ID
	idle := func(d time.Duration, versions ...broker.ID) broker.Op {
		return set("a", "", broker.Condition{Kind: broker.IfIdle, Versions: versions, Idle: d})
	}
	first := refused(t, log, idle(time.Hour, v)).Written
	if first < v.Ms {
		t.Errorf("written at %d, before %s", first, v)
	}
	refused(t, log, idle(0, broker.ID{Ms: 1}))
	// The clock is that of the log, which may be on another machine.
	for until := time.Now().Add(patience); ; {
		if r := did(t, log, set("a", "1.0")); !r.Unchanged {
			t.Fatalf("an equal value is %+v", r)
		}
		if refused(t, log, idle(time.Hour, v)).Written > first {
			break
		}
		if time.Now().After(until) {
			t.Fatal("a value that is written again stays as old as it was")
		}
	}
	for until := time.Now().Add(patience); ; {
		r := appendAll(t, log, idle(2*time.Millisecond, v))[0]
		if r.Err == nil {
			break
		}
		if !errors.Is(r.Err, broker.ErrStateMismatch) || time.Now().After(until) {
			t.Fatalf("the value does not get idle: %+v", r)
		}
	}
	refused(t, log, idle(0, v))
}

// values are the values that a follower has, by channel.
func (f *follower) values() map[string]string {
	values := map[string]string{}
	for _, e := range slices.Concat(f.origin.States, f.all()) {
		if e.Kind != broker.KindState {
			continue
		}
		if values[e.Channel] = e.ID.String() + " " + string(e.State.Value) + " " + e.State.Session; e.State.Value == nil {
			delete(values, e.Channel)
		}
	}
	return values
}

// fill writes some values, and returns those that a follower must have then.
func fill(t *testing.T, log broker.Log) map[string]string {
	t.Helper()
	did(t, log, set("a", "1"))
	a := did(t, log, set("a", "2")).ID
	did(t, log, set("gone", "1"))
	did(t, log, set("gone", ""))
	op := set("b", `{"x":0.10}`)
	op.State.Session = "s"
	b := did(t, log, op).ID
	return map[string]string{"a": a.String() + " 2 ", "b": b.String() + ` {"x":0.10} s`}
}

func testStateFollowed(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	want := fill(t, log)
	_ = f.end()
	g := follow(t, log)
	if got := g.values(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("followed again: %v, want %v", got, want)
	}
	if s := refused(t, log, set("a", "3", is(broker.IfAbsent))); string(s.Value) != "2" {
		t.Errorf("there is %+v", s)
	}
}

func testStateRetained(t *testing.T, h Harness) {
	if h.Reopen == nil {
		return // values are retained only if entries are
	}
	log := open(t, h)
	f := follow(t, log)
	want := fill(t, log)
	_ = f.end()
	log = h.Reopen(t, log)
	t.Cleanup(func() { _ = log.Close() })
	g := follow(t, log)
	did(t, log, set("last", "1")) // all before it has been applied
	got := g.values()
	delete(got, "last")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("opened again: %v, want %v", got, want)
	}
	if s := refused(t, log, set("a", "3", is(broker.IfAbsent))); string(s.Value) != "2" || want["a"] != s.Version.String()+" 2 " {
		t.Errorf("there is %+v", s)
	}
	if r := did(t, log, set("a", "2.0")); !r.Unchanged {
		t.Errorf("an equal value is %+v", r)
	}
}

func testStateBounds(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	bounded := func(op broker.Op) broker.Result {
		op.State = op.State.Within(broker.StateBounds{Count: 2, Bytes: 20})
		return appendAll(t, log, op)[0]
	}
	for _, row := range []struct {
		op   broker.Op
		want error
	}{
		{set("a", "1"), nil},
		{set("b", "1"), nil},
		{set("c", "1"), broker.ErrStateFull},
		{set("a", "1234567890"), nil}, // a and b take 13
		{set("b", "12345678"), nil},   // 20
		{set("b", "123456789"), broker.ErrStateFull},
		{set("b", "12345679"), nil},
		{set("b", ""), nil},
		{set("c", "1"), nil},
	} {
		if r := bounded(row.op); !errors.Is(r.Err, row.want) {
			t.Errorf("%s = %s: %v, want %v", row.op.Channel, row.op.State.Value, r.Err, row.want)
		}
	}
	if all := f.wait(t, 7); len(all) != 7 {
		t.Errorf("%d entries, want 7", len(all))
	}
}

func testStateEntries(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	op := set("a", "1.50")
	op.State.Session = "s"
	first := did(t, log, op)
	if r := did(t, log, set("a", "1.5")); r.Unchanged {
		t.Error("a value that is bound no more is unchanged")
	}
	all := f.wait(t, 2)
	e := all[0]
	if e.ID != first.ID || e.Version != broker.EntryVersion || e.Kind != broker.KindState || e.Channel != "a" ||
		string(e.State.Value) != "1.50" || e.State.Session != "s" || all[1].State.Session != "" {
		t.Errorf("entries %+v %+v", e, e.State)
	}
}
