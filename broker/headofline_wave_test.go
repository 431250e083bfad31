package broker

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wakerFunc is called when its reader is woken.
type wakerFunc func()

func (f wakerFunc) Wake(bool) bool { f(); return false }

// Of the crowds that a wave wakes the smallest comes first.
func TestAWaveWakesTheReadersOfSmallChannelsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		var order []string
		sizes := map[string]int{"large": 4 * wakeInline, "middle": 3 * wakeInline, "small": 2 * wakeInline}
		var ops []Op
		for _, name := range []string{"large", "small", "middle"} {
			for range sizes[name] {
				s, err := b.Subscribe(SubscribeOptions{Channels: []string{name}, Waker: wakerFunc(func() { order = append(order, name) })})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
			}
			ops = append(ops, Op{Kind: KindEvent, Channel: name})
		}
		synctest.Wait()
		order = nil
		if _, err := b.Publish(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var want []string
		for _, name := range []string{"small", "middle", "large"} {
			want = append(want, slices.Repeat([]string{name}, sizes[name])...)
		}
		if !slices.Equal(order, want) {
			t.Errorf("they are woken in the order %v", slices.Compact(order))
		}
	})
}

// A publisher gets its answer between two slices of a wave, not after the wave.
func TestAPublisherIsAnsweredWhileAWaveGoesOn(t *testing.T) {
	b := newBroker(t)
	const slicesOfWave = 16
	var wakes atomic.Int32
	var answered, was atomic.Bool
	begun, ended := make(chan struct{}), make(chan struct{})
	waker := wakerFunc(func() {
		switch n := wakes.Add(1); {
		case n == 1:
			close(begun)
		case n == slicesOfWave*wakeSlice:
			was.Store(answered.Load())
			close(ended)
		case n%wakeSlice == 0 && !answered.Load():
			// Longer than a mutex lets others go first.
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range slicesOfWave * wakeSlice {
		s, err := b.Subscribe(SubscribeOptions{Channels: []string{"a"}, Waker: waker})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	wakes.Store(0)
	publish(t, b, "a", "1")
	<-begun
	publish(t, b, "b", "1")
	answered.Store(true)
	<-ended
	if !was.Load() {
		t.Error("an event of another channel is answered only after the wave")
	}
}
