package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/leaktest"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/state"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

func newHub(t *testing.T, configure ...func(*broker.Config)) *broker.Broker {
	t.Helper()
	cfg := broker.DefaultConfig()
	for _, change := range configure {
		change(&cfg)
	}
	hub, err := broker.New(broker.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return hub
}

func value[T any](t *testing.T, hub *broker.Broker, name string, initial T) *state.Value[T] {
	t.Helper()
	v, err := state.New(hub, name, initial)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSetLosesNoUpdate(t *testing.T) {
	hub := newHub(t)
	const writers, each = 32, 100
	var wg sync.WaitGroup
	for range writers {
		v := value(t, hub, "count", int64(1<<53))
		wg.Go(func() {
			for range each {
				if _, err := v.Set(t.Context(), func(n int64) int64 { return n + 1 }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, err := value(t, hub, "count", int64(0)).Get(); err != nil || got != 1<<53+writers*each {
		t.Errorf("got %d, %v", got, err)
	}
}

type cart struct {
	Items map[string]int `json:"items"`
	Total json.Number    `json:"total"`
}

func TestTheInitialValueIsNobodysToChange(t *testing.T) {
	hub := newHub(t)
	v := value(t, hub, "cart", cart{Items: map[string]int{"pen": 1}, Total: "0.10"})
	add := func(c cart) cart {
		c.Items["pen"]++
		return c
	}
	if _, err := hub.Publish(t.Context(), []broker.Op{{Kind: broker.KindPurge, Channel: "cart"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := v.Set(t.Context(), add)
		if err != nil || c.Items["pen"] != 2 || c.Total != "0.10" {
			t.Errorf("got %+v, %v", c, err)
		}
		if err := v.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		if c, err := v.Get(); err != nil || c.Items["pen"] != 1 {
			t.Errorf("after it was removed: %+v, %v", c, err)
		}
	}
	if err := v.Delete(t.Context()); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestAnEqualValueTellsNobody(t *testing.T) {
	hub := newHub(t)
	v := value(t, hub, "a", []string{})
	set := func(to ...string) broker.ID {
		t.Helper()
		if _, err := v.Set(t.Context(), func([]string) []string { return to }); err != nil {
			t.Fatal(err)
		}
		return hub.State("a").Version
	}
	first := set("x", "y")
	if again := set("x", "y"); again != first {
		t.Errorf("the version %s becomes %s", first, again)
	}
	if other := set("y", "x"); other == first {
		t.Error("another value has the same version")
	}
}

func TestWhatCannotBeIsToldAndChangesNothing(t *testing.T) {
	hub := newHub(t, func(c *broker.Config) { c.MaxStates = 1 })
	if _, err := state.New(hub, "a/", 0); !errors.Is(err, channel.ErrName) {
		t.Errorf("a bad name: %v", err)
	}
	v := value(t, hub, "a", 0)
	if _, err := v.Set(t.Context(), func(int) int { return 1 }); err != nil {
		t.Fatal(err)
	}
	text := value(t, hub, "a", "")
	if _, err := text.Get(); err == nil || !strings.Contains(err.Error(), `the value of channel "a"`) {
		t.Errorf("a number that is read as text: %v", err)
	}
	if _, err := text.Set(t.Context(), func(string) string { return "x" }); err == nil {
		t.Error("a number that is taken for text is replaced")
	}
	odd := value(t, hub, "a", 0.0)
	if _, err := odd.Set(t.Context(), func(float64) float64 { return math.Inf(1) }); err == nil {
		t.Error("infinity is taken")
	}
	if _, err := value(t, hub, "b", 0).Set(t.Context(), func(int) int { return 1 }); !errors.Is(err, broker.ErrStateFull) {
		t.Errorf("a value too many: %v", err)
	}
	if _, err := state.NewManager[int](hub).Create(t.Context(), "b", 1); !errors.Is(err, broker.ErrStateFull) {
		t.Errorf("a value too many: %v", err)
	}
	big := value(t, hub, "a", json.RawMessage("0"))
	if _, err := big.Set(t.Context(), func(json.RawMessage) json.RawMessage {
		return json.RawMessage(`"` + strings.Repeat("x", broker.MaxState) + `"`)
	}); !errors.Is(err, broker.ErrStateTooLarge) {
		t.Errorf("a value too large: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Set(ctx, func(int) int { return 2 }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if n, err := v.Get(); n != 1 || err != nil {
		t.Errorf("the value is %d, %v", n, err)
	}
}

func TestWatchYieldsTheValueAndEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		v := value(t, hub, "a", -1)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan int)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for n, err := range v.Watch(ctx) {
				if err != nil {
					n = -100
				}
				got <- n
			}
		}()
		next := func(want int) {
			t.Helper()
			if n := <-got; n != want {
				t.Errorf("got %d, want %d", n, want)
			}
		}
		set := func(n int) {
			t.Helper()
			if _, err := v.Set(ctx, func(int) int { return n }); err != nil {
				t.Fatal(err)
			}
		}
		next(-1)
		set(1)
		next(1)
		// An event that looks like a change is none.
		event := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Type: "a", Data: []byte(`{"value":7}`)}}
		if _, err := hub.Publish(ctx, []broker.Op{event}); err != nil {
			t.Fatal(err)
		}
		set(2)
		synctest.Wait() // the watcher has 2 in hand
		set(3)
		set(4)
		next(2)
		next(4)
		if err := v.Delete(ctx); err != nil {
			t.Fatal(err)
		}
		next(-1)
		if _, err := value(t, hub, "a", "").Set(ctx, func(string) string { return "x" }); err != nil {
			t.Fatal(err)
		}
		next(-100)
		set5 := value(t, hub, "a", any(nil))
		if _, err := set5.Set(ctx, func(any) any { return 5 }); err != nil {
			t.Fatal(err)
		}
		next(5)
		cancel()
		<-ended
		if n := hub.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}

		for n, err := range v.Watch(t.Context()) { // there is a value from the start
			if n != 5 || err != nil {
				t.Errorf("got %d, %v", n, err)
			}
			break
		}
		if err := hub.Close(); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range v.Watch(t.Context()) {
			last = err
		}
		if !errors.Is(last, broker.ErrClosed) {
			t.Errorf("the last error is %v", last)
		}
	})
}

func TestAWatcherSeesValuesRise(t *testing.T) {
	hub := newHub(t, func(c *broker.Config) { c.State.Format = broker.FormatJSONPatch })
	v := value(t, hub, "a", 0)
	const last = 2000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			at := -1
			for n, err := range v.Watch(t.Context()) {
				if err != nil || n <= at {
					t.Errorf("after %d came %d, %v", at, n, err)
					return
				}
				if at = n; n == last {
					return
				}
			}
		})
	}
	for range last {
		if _, err := v.Set(t.Context(), func(n int) int { return n + 1 }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestAManagerCreatesOnce(t *testing.T) {
	hub := newHub(t)
	ctx := t.Context()
	if m := state.NewManager[int](hub); m.Has("a") {
		t.Error("there is a value before it is created")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []int
	for i := range 16 {
		m := state.NewManager[int](hub)
		wg.Go(func() {
			v, err := m.Create(ctx, "a", i)
			if err != nil {
				t.Error(err)
				return
			}
			n, err := v.Get()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, n)
		})
	}
	wg.Wait()
	if slices.Min(got) != slices.Max(got) {
		t.Errorf("racing creations have %v", got)
	}
	m, other := state.NewManager[int](hub), state.NewManager[int](hub)
	v, ok := other.Get("a")
	if !ok || !other.Has("a") {
		t.Fatal("another manager does not have the value")
	}
	if _, err := v.Set(ctx, func(int) int { return 42 }); err != nil {
		t.Fatal(err)
	}
	if had, err := m.Remove(ctx, "a"); !had || err != nil {
		t.Errorf("removing it: %v, %v", had, err)
	}
	if had, err := m.Remove(ctx, "a"); had || err != nil {
		t.Errorf("removing it again: %v, %v", had, err)
	}
	if _, ok := other.Get("a"); ok {
		t.Error("the value is still there")
	}
	if n, err := v.Get(); n != 0 || err != nil {
		t.Errorf("a value that was removed is %d, %v", n, err)
	}
	if _, err := m.Create(ctx, "a//b", 1); !errors.Is(err, channel.ErrName) {
		t.Errorf("a bad name: %v", err)
	}
}
