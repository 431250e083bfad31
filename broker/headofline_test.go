package broker

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The reader of a small channel is woken by its publisher, while the many of another
// one are waited for, and while more events wait for them.
func TestAReaderOfASmallChannelDoesNotWaitForAWave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		all := crowd(t, b)
		small := []*Subscription{subscribe(t, b, Start{}, "b")}
		publish(t, b, "a", "1")
		synctest.Wait()
		woken(all)
		publish(t, b, "a", "is for the next wave")
		publish(t, b, "b", "1")
		if n := woken(small); n != 1 {
			t.Error("the reader of the small channel is not woken when its event is published")
		}
		synctest.Wait()
		if n := woken(all); n != 0 {
			t.Errorf("%d are woken that have not read", n)
		}
	})
}

// kindWaker counts how it is woken.
type kindWaker struct{ alone, crowd int }

func (w *kindWaker) Wake(crowd bool) bool {
	if crowd {
		w.crowd++
	} else {
		w.alone++
	}
	return false
}

// Readers are told whether they are woken in a crowd: when their channel has many
// readers, or when many channels with few readers get something at once.
func TestReadersAreToldWhetherTheyAreACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		crowd(t, b)
		var ops []Op
		var wakers []*kindWaker
		for i := range 2 * wakeInline {
			name := string(rune('b'+i/26)) + string(rune('a'+i%26))
			w := new(kindWaker)
			s, err := b.Subscribe(SubscribeOptions{Channels: []string{name, "a"}, Waker: w})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			wakers = append(wakers, w)
			ops = append(ops, Op{Kind: KindEvent, Channel: name})
		}
		count := func() (n kindWaker) {
			synctest.Wait()
			for _, w := range wakers {
				n.alone += w.alone
				n.crowd += w.crowd
				*w = kindWaker{}
			}
			return n
		}
		publish(t, b, ops[0].Channel, "1")
		if n, want := count(), (kindWaker{alone: 1}); n != want {
			t.Errorf("one channel with one reader: %+v, want %+v", n, want)
		}
		publish(t, b, "a", "1")
		if n, want := count(), (kindWaker{crowd: 2 * wakeInline}); n != want {
			t.Errorf("one channel with many: %+v, want %+v", n, want)
		}
		time.Sleep(time.Second)
		if _, err := b.Publish(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
		if n, want := count(), (kindWaker{alone: wakeInline, crowd: wakeInline}); n != want {
			t.Errorf("many channels with one reader each: %+v, want %+v", n, want)
		}
	})
}

// Nobody is left out of a wave when readers leave in the middle of it.
func TestAWaveWakesAllThatStay(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			var all []*Subscription
			for range 4 * wakeSlice {
				all = append(all, subscribe(t, b, Start{}, "a"))
			}
			var leaving sync.WaitGroup
			leaving.Go(func() {
				for i := 0; i < len(all); i += 2 {
					all[i].Close()
				}
			})
			publish(t, b, "a", "1")
			leaving.Wait()
			synctest.Wait()
			var stay []*Subscription
			for i := 1; i < len(all); i += 2 {
				stay = append(stay, all[i])
			}
			if n := woken(stay); n != len(stay) {
				t.Errorf("%d of %d are woken", n, len(stay))
			}
		})
	}
}
