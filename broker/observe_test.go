package broker

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is an Observer that keeps what it is told.
type recorder struct {
	mu   sync.Mutex
	told []string
}

func (r *recorder) say(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, s)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

func (r *recorder) ChannelReaders(name string, readers int) {
	r.say(fmt.Sprintf("%s has %d", name, readers))
}

func (r *recorder) StateChanged(c StateChange) {
	r.say(fmt.Sprintf("%s is %s", c.Channel, c.Value))
}

func TestObserverHearsOfTheFirstReaderAndTheLast(t *testing.T) {
	b := newBroker(t)
	early := subscribe(t, b, Start{}, "early")
	r := new(recorder)
	b.Observe(r)
	if got := r.take(); !slices.Equal(got, []string{"early has 1"}) {
		t.Fatalf("at first it is told %q", got)
	}
	early.Close()
	one, two := subscribe(t, b, Start{}, "a", "x/*"), subscribe(t, b, Start{}, "a", "x/y")
	one.Close()
	two.Close()
	want := []string{"early has 0", "a has 1", "x/y has 1", "a has 1", "a has 0", "x/y has 0"}
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("it is told %q, want %q", got, want)
	}
	b.Observe(nil)
	subscribe(t, b, Start{}, "a")
	if got := r.take(); got != nil {
		t.Errorf("nobody observes, and it is told %q", got)
	}
}

// What is bound to two sessions is unbound from one without a change of the value, and
// facts are kept like values.
func TestObserverHearsOfChangesOfValues(t *testing.T) {
	synctest.Test(t, changesOfValues)
}

func changesOfValues(t *testing.T) {
	b := newBroker(t)
	r := new(recorder)
	b.Observe(r)
	set := func(value, session string) Op {
		op := Op{Kind: KindState, Channel: "count", State: &StateOp{Session: session}}
		if value != "" {
			op.State.Value = []byte(value)
		}
		return op
	}
	one, err := b.Subscribe(SubscribeOptions{ID: "one", Channels: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Subscribe(SubscribeOptions{ID: "two", Channels: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	r.take()
	publishAll(t, b, set("1", ""))
	publishAll(t, b, set("1", "")) // which changes nothing
	publishAll(t, b, set("2", "one"))
	publishAll(t, b, set("2", "two"))
	refused := Op{Kind: KindState, Channel: "count", State: &StateOp{Value: []byte("3"), If: Condition{Kind: IfAbsent}}}
	if r, err := b.Publish(t.Context(), []Op{refused}); err != nil || r[0].Err == nil {
		t.Fatalf("not refused: %v", err)
	}
	if err := b.SetFact(t.Context(), "fact", []byte("4"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.take(), []string{"count is 1", "count is 2", "count is 2"}; !slices.Equal(got, want) {
		t.Errorf("it is told %q, want %q", got, want)
	}
	one.Close()
	synctest.Wait()
	two.Close()
	synctest.Wait()
	if got, want := r.take(), []string{"a has 1", "a has 0", "count is "}; !slices.Equal(got, want) {
		t.Errorf("it is told %q, want %q", got, want)
	}
}
