package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// appended appends one operation and returns its result.
func appended(t *testing.T, l *Log, op broker.Op) broker.Result {
	t.Helper()
	results, err := l.Append(context.Background(), []broker.Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func TestNodesThatComeLaterKnowWhichValuesWereRemoved(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := logConfig(server, t)
	l := openLog(t, cfg)
	remove := func(channel string) broker.ID {
		appended(t, l, set(channel, "1"))
		r := appended(t, l, broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{}})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.ID
	}
	gone := remove("gone")
	remove("_fact")
	origin := func() broker.Origin {
		r := record(t, openLog(t, cfg))
		r.waitReady()
		return r.starts[0]
	}
	o := origin()
	if len(o.Removed) != 1 || o.Removed["gone"].Ms != gone.Ms || gone.After(o.Removed["gone"]) || !o.Forgot.IsZero() {
		t.Errorf("removed %v, forgot %s, want gone at %s", o.Removed, o.Forgot, gone)
	}

	// There are so many now that the oldest is no longer known by name.
	ops := make([]broker.Op, 0, 512)
	for n := 0; n < 4096; {
		ops = ops[:0]
		for range 256 {
			channel := fmt.Sprint("c", n)
			ops = append(ops, set(channel, "1"), broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{}})
			n++
		}
		if _, err := l.Append(context.Background(), ops); err != nil {
			t.Fatal(err)
		}
	}
	o = origin()
	if _, known := o.Removed["gone"]; known || len(o.Removed) != 4096 || gone.After(o.Forgot) {
		t.Errorf("%d are known, forgot %s, want 4096 and all of %s", len(o.Removed), o.Forgot, gone)
	}
}

func TestFactsAreInNoBoundOnValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l := openLog(t, logConfig(server, t))
	bounded := func(channel, value string) error {
		op := set(channel, value)
		op.State = op.State.Within(broker.StateBounds{Count: 1, Bytes: 8})
		return appended(t, l, op).Err
	}
	for n := range 5 {
		appended(t, l, set(fmt.Sprint("_f", n), "123456789"))
	}
	if err := bounded("a", "1"); err != nil {
		t.Errorf("the first value is refused beside facts: %v", err)
	}
	if err := bounded("b", "1"); !errors.Is(err, broker.ErrStateFull) {
		t.Errorf("the second value: %v, want ErrStateFull", err)
	}
	appended(t, l, broker.Op{Kind: broker.KindState, Channel: "_f0", State: &broker.StateOp{}})
	appended(t, l, set("_f1", "1"))
	if err := bounded("a", "1234567"); err != nil {
		t.Errorf("a value within its bound is refused: %v", err)
	}
	if err := bounded("b", "1"); !errors.Is(err, broker.ErrStateFull) {
		t.Errorf("the second value: %v, want ErrStateFull", err)
	}
}
