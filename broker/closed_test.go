package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/sse"
)

func closeOp(name, last string) Op {
	op := Op{Kind: KindClose, Channel: name, Close: &CloseOp{Event: last != ""}}
	op.Event.Data = []byte(last)
	return op
}

// publishRefused publishes one operation, which must be refused.
func publishRefused(t *testing.T, b *Broker, op Op, want error) {
	t.Helper()
	if _, err := b.publishOne(context.Background(), op); err != nil {
		if !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", op, err, want)
		}
		return
	}
	results, err := b.Publish(context.Background(), []Op{op})
	if err != nil || !errors.Is(results[0].Err, want) {
		t.Errorf("%+v: %+v, %v, want %v", op, results, err, want)
	}
}

func TestAChannelIsClosedAsLongAsItsHistoryIsKeptByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, func(c *Config) {
			c.History = Policy{Events: 10, Age: time.Hour, Bytes: 1 << 20}
			c.Rules = []Rule{
				{Pattern: "short", Policy: Policy{Events: 10, Age: time.Second, Bytes: 1 << 20}},
				{Pattern: "off", Policy: Policy{Bytes: 1 << 20}},
				{Pattern: "ever", Policy: Policy{Events: 10, Bytes: 1 << 20}},
			}
		})
		lasts := map[string]time.Duration{"hour": time.Hour, "short": minClosed, "off": unkeptClosed, "ever": 0}
		for name := range lasts {
			publishAll(t, b, closeOp(name, "last"))
		}
		start := time.Now()
		for _, after := range []time.Duration{time.Second, minClosed - time.Second, minClosed + 10*time.Second, time.Hour - time.Second, time.Hour + 10*time.Second, 1000 * time.Hour} {
			time.Sleep(time.Until(start.Add(after)))
			synctest.Wait()
			for name, lasting := range lasts {
				info, _ := b.Channel(name)
				if closed := lasting == 0 || after < lasting; closed == info.Closed.IsZero() {
					t.Errorf("after %s %q is closed by %s", after, name, info.Closed)
				}
			}
		}
		for name, lasting := range lasts {
			r, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: name, Event: sse.Event{Data: []byte("x")}}})
			if err != nil || errors.Is(r[0].Err, ErrChannelClosed) != (lasting == 0) {
				t.Errorf("publishing to %q after all: %+v, %v", name, r, err)
			}
		}
	})
}

func TestWhatAnOwnerMayCloseIsItsShare(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.MaxChannels, c.Share = 100, 10 })
	owned := func(id Owner, n int) Op {
		op := closeOp(fmt.Sprintf("%d/%d", id, n), "")
		op.Owner = id
		return op
	}
	for n := range 10 {
		publishAll(t, b, owned(1, n))
	}
	publishRefused(t, b, owned(1, 10), ErrShareOfClosed)
	publishAll(t, b, owned(1, 3), owned(2, 1), Op{Kind: KindPurge, Channel: "1/0"})
	publishAll(t, b, owned(1, 10))
	publishRefused(t, b, owned(1, 11), ErrShareOfClosed)

	many := make([]Op, 11) // at once
	for n := range many {
		many[n] = owned(3, n)
	}
	if _, err := b.Publish(context.Background(), many); !errors.Is(err, ErrShareOfClosed) {
		t.Errorf("eleven at once: %v", err)
	}
	if own := b.owners.byID[3]; own != nil {
		t.Errorf("a batch that was refused is counted: %+v", own)
	}
	for n := range 11 {
		publishAll(t, b, Op{Kind: KindPurge, Channel: fmt.Sprintf("1/%d", n)})
	}
	if own := b.owners.byID[1]; own != nil {
		t.Errorf("who has nothing closed any more is counted: %+v", own)
	}
}

// TestALogThatStartsAgainSaysWhatIsClosed is about readers that were told what is not
// true any more, and the other way round.
func TestALogThatStartsAgainSaysWhatIsClosed(t *testing.T) {
	b := newBroker(t)
	publishAll(t, b, closeOp("a", ""), closeOp("b", ""))
	sub, err := b.Subscribe(SubscribeOptions{Channels: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	read := func() (batch Batch) {
		t.Helper()
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
		return batch
	}
	if batch := read(); len(batch.Closed) != 2 || batch.End {
		t.Errorf("told %+v, want a and b", batch)
	}
	head := b.Head()
	kept := b.closedNow.byName["b"].entry()
	voided := newClosed("c", ID{head.Ms, head.N + 5}, 0).entry()
	(&follower{b: b, started: true}).Start(Origin{ID: head, Born: head, Gap: ReasonDiverged, Closed: []Entry{kept, voided}})
	if batch := read(); len(batch.Closed) != 0 || batch.End {
		t.Errorf("before the log has come there: told %+v", batch)
	}
	b.apply([]Entry{voided, {ID: ID{head.Ms, head.N + 6}, Version: EntryVersion, Kind: KindClose, Channel: "a", Close: &CloseEntry{}}})
	if batch := read(); len(batch.Closed) != 2 || !batch.End {
		t.Errorf("told %+v, want a again, and c, and the end", batch)
	}
}
