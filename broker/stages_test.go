package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// publishStages publishes operations of a stage each, and goes on with those that were
// not reached. It returns what became of each, up to the first that is refused.
func publishStages(t *testing.T, b *Broker, ops []Op) (became []string) {
	t.Helper()
	for i := range ops {
		ops[i].Stage = i
	}
	for len(ops) > 0 {
		results, err := b.Publish(t.Context(), ops)
		if err != nil {
			if op, ok := errors.AsType[*OpError](err); !ok || op.Index != 0 {
				t.Fatalf("%v is about another than the first", err)
			}
			return append(became, err.Error())
		}
		if len(results) != len(ops) || errors.Is(results[0].Err, ErrNotReached) {
			t.Fatalf("%d of %d results, the first is %v", len(results), len(ops), results[0].Err)
		}
		for len(results) > 0 && !errors.Is(results[0].Err, ErrNotReached) {
			became = append(became, becameOf(results[0]))
			if results[0].Err != nil {
				return became
			}
			results, ops = results[1:], ops[1:]
		}
	}
	return became
}

func becameOf(r Result) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return fmt.Sprintf("stored, repeated %v", r.Repeated)
}

// What defends is that a stage that cannot be appended with those before it is left.
func TestStagesAreRefusedAsOneAfterTheOtherIs(t *testing.T) {
	const most = maxKeys / 100
	event := func(channel string) Op { return Op{Kind: KindEvent, Channel: channel, Owner: 1} }
	keyed := func(from, to int) (ops []Op) {
		for i := from; i < to; i++ {
			op := event("a")
			op.Key = Key{Identity: "one", Key: fmt.Sprint(i)}
			ops = append(ops, op)
		}
		return ops
	}
	for _, tt := range []struct {
		name   string
		before func(*Broker)
		ops    func() []Op
		want   int // how many come before the one that is refused
	}{
		{"the name of no channel", nil, func() []Op { return []Op{event("a"), event("b"), event("no//name"), event("c")} }, 2},
		{"an event that is too large", nil, func() []Op {
			large := event("b")
			large.Event.Data = []byte(strings.Repeat("x", 1<<20))
			return []Op{event("a"), large, event("c")}
		}, 1},
		{"the first", nil, func() []Op { return []Op{event("no//name"), event("a")} }, 0},
		{"keys that are known leave the room that they had", func(b *Broker) {
			if _, err := b.Publish(t.Context(), keyed(0, most-5)); err != nil {
				t.Fatal(err)
			}
		}, func() []Op { return slices.Concat(keyed(0, 20), keyed(most-5, most+10)) }, 25},
		{"a channel that there is no room for", func(b *Broker) {
			for i := range 3 {
				sub, err := b.Subscribe(SubscribeOptions{Channels: []string{fmt.Sprintf("read/%d", i)}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(sub.Close)
				publish(t, b, fmt.Sprintf("read/%d", i), "1")
			}
		}, func() []Op { return []Op{event("read/0"), event("read/1"), event("new"), event("read/2")} }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			open := func() *Broker {
				b := newBroker(t, func(c *Config) {
					c.Share = 1
					if strings.Contains(tt.name, "room for") {
						c.Share, c.MaxChannels = 100, 3
					}
				})
				if tt.before != nil {
					tt.before(b)
				}
				return b
			}
			apart, together := open(), open()
			var want []string
			for _, op := range tt.ops() {
				results, err := apart.Publish(t.Context(), []Op{op})
				if err != nil {
					want = append(want, err.Error())
					break
				}
				want = append(want, becameOf(results[0]))
				if results[0].Err != nil {
					break
				}
			}
			if len(want) != tt.want+1 {
				t.Fatalf("one after the other: %q", want)
			}
			if got := publishStages(t, together, tt.ops()); !slices.Equal(got, want) {
				t.Errorf("together: %q\nwant      %q", got, want)
			}
			for result, n := range apart.PublishStats().Results {
				if got := together.PublishStats().Results[result]; got != n {
					t.Errorf("%s are %d, want %d", result, got, n)
				}
			}
		})
	}
}
