package broker

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAValueGoesWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stateBroker(t, func(c *Config) { c.State.TTL = time.Minute })
		s := subscribeTo(t, b, SubscribeOptions{Channels: []string{"a", "b"}})
		publishAll(t, b, set("a", "1"), set("b", "1"))
		frames(t, s)
		time.Sleep(40 * time.Second)
		publishAll(t, b, set("b", "1.0")) // tells nobody, and is a write
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		if got := frames(t, s); got != "" {
			t.Errorf("before its time: %s", got)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := frames(t, s); !strings.HasSuffix(got, ` event: a data: {"deleted":true}|`) || strings.Count(got, "|") != 1 {
			t.Errorf("at its time: %s", got)
		}
		if b.State("a").Value != nil || string(b.State("b").Value) != "1" {
			t.Error("the wrong value is gone")
		}
		time.Sleep(41 * time.Second)
		synctest.Wait()
		if got := frames(t, s); !strings.HasSuffix(got, ` event: b data: {"deleted":true}|`) {
			t.Errorf("a minute after it was written again: %s", got)
		}

		publishAll(t, b, set("a", "1"))
		cfg := *b.config.Load()
		cfg.State.TTL = 0
		if err := b.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if b.State("a").Value == nil {
			t.Error("a value goes whose time has no end any more")
		}
		cfg.State.TTL = time.Minute
		if err := b.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if b.State("a").Value != nil {
			t.Error("a value is there whose time has got an end, long ago")
		}
		if n := b.Stats().States; n != 0 {
			t.Errorf("%d values are left", n)
		}
		for i := range 1000 { // more than one append removes
			publishAll(t, b, set("n/"+strconv.Itoa(i), "1"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := b.Stats().States; n != 0 {
			t.Errorf("%d values are left", n)
		}
	})
}

// countingLog counts what is appended to a log.
type countingLog struct {
	*MemoryLog
	appends atomic.Int64
}

func (l *countingLog) Append(ctx context.Context, ops []Op) ([]Result, error) {
	l.appends.Add(1)
	return l.MemoryLog.Append(ctx, ops)
}

// The log decides when a time is over. Where its clock is behind, it is asked
// again, but not all the time.
func TestALogWhoseClockStepsBackIsNotAskedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behind atomic.Int64
		log := &countingLog{MemoryLog: newMemory(func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) })}
		c := DefaultConfig()
		c.State.TTL = time.Second
		b, err := New(log, c)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		publishAll(t, b, set("a", "1"))
		behind.Store(int64(10 * time.Minute))
		time.Sleep(10 * time.Minute)
		if n := log.appends.Load(); n < 10 || n > 650 || b.State("a").Value == nil {
			t.Errorf("it was asked %d times in ten minutes, and a is %s", n, b.State("a").Value)
		}
		time.Sleep(4 * time.Second)
		if b.State("a").Value != nil {
			t.Error("the value outlives its time")
		}
	})
}

func TestAValueGoesWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stateBroker(t)
		watcher := subscribeTo(t, b, SubscribeOptions{Channels: []string{"*"}})
		session := subscribeTo(t, b, SubscribeOptions{ID: "s", Channels: []string{"x"}})
		bind := func(name, value, session string) {
			t.Helper()
			op := set(name, value)
			op.State.Session = session
			publishAll(t, b, op)
		}
		bind("a", "1", "s")
		bind("b", "1", "s")
		bind("c", "1", "s")
		bind("c", "1", "") // not bound any more
		if _, err := b.Update(context.Background(), Update{Channel: "b"}, func(old State) ([]byte, error) {
			return append(old.Value, '0'), nil
		}); err != nil { // bound as before
			t.Fatal(err)
		}
		if got := b.State("b"); string(got.Value) != "10" || got.Session != "s" {
			t.Errorf("b is %+v", got)
		}
		frames(t, watcher)
		session.Close()
		synctest.Wait()
		if got := frames(t, watcher); strings.Count(got, `{"deleted":true}`) != 2 || strings.Contains(got, "event: c") {
			t.Errorf("got %s", got)
		}
		if b.State("a").Value != nil || b.State("b").Value != nil || b.State("c").Value == nil {
			t.Error("the wrong values are gone")
		}
		if _, err := b.Publish(context.Background(), []Op{{Kind: KindState, Channel: "a", State: &StateOp{Value: []byte("1"), Session: "s"}}}); !errors.Is(err, ErrNoSession) {
			t.Errorf("a session that has ended: %v", err)
		}
		if len(b.expiry.ended)+len(b.states.bound)+len(b.expiry.open) != 0 {
			t.Errorf("left: %v %v %v", b.expiry.ended, b.states.bound, b.expiry.open)
		}
	})
}

// A session that ends while a value is bound to it leaves nothing behind.
func TestAValueDoesNotOutliveASessionThatEndsAsItIsBound(t *testing.T) {
	b := stateBroker(t)
	var wg sync.WaitGroup
	for i := range 50 {
		id := strconv.Itoa(i)
		s, err := b.Subscribe(SubscribeOptions{ID: id, Channels: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			op := set("a/"+id, "1")
			op.State.Session = id
			if _, err := b.Publish(context.Background(), []Op{op}); err != nil && !errors.Is(err, ErrNoSession) {
				t.Error(err)
			}
		})
		wg.Go(s.Close)
	}
	wg.Wait()
	for until := time.Now().Add(patience); b.Stats().States > 0; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("%d values are left", b.Stats().States)
		}
	}
}
