package broker

import (
	"testing"
	"testing/synctest"
	"time"
)

// crowd is so many readers that publishers do not wake them themselves.
func crowd(t *testing.T, b *Broker) []*Subscription {
	t.Helper()
	var all []*Subscription
	for range 2 * wakeInline {
		all = append(all, subscribe(t, b, Start{}, "a"))
	}
	return all
}

// woken is how many of the readers have been woken since the last time.
func woken(all []*Subscription) (n int) {
	for _, s := range all {
		select {
		case <-s.Wake():
			n++
		default:
		}
	}
	return n
}

func readAll(t *testing.T, all []*Subscription) {
	t.Helper()
	for _, s := range all {
		var batch Batch
		if err := s.Read(&batch); err != nil {
			t.Error(err)
		}
	}
}

func TestReadersAreWokenAgainWhenTheyHaveRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		all := crowd(t, b)
		most := time.Duration(len(all)) * writeTime
		publish(t, b, "a", "at once")
		synctest.Wait()
		if n := woken(all); n != len(all) {
			t.Fatalf("%d of %d are woken", n, len(all))
		}
		publish(t, b, "a", "meanwhile")
		time.Sleep(2 * most)
		if n := woken(all); n > 0 {
			t.Fatalf("%d are woken that have not read", n)
		}
		readAll(t, all)
		time.Sleep(2 * most)
		if n := woken(all); n != len(all) {
			t.Errorf("%d of %d are woken", n, len(all))
		}
	})
}

func TestReadersThatAreStalledAreWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		all := crowd(t, b)
		stalled, others := all[:len(all)/2], all[len(all)/2:]
		publish(t, b, "a", "1")
		synctest.Wait()
		woken(all)
		readAll(t, others)
		publish(t, b, "a", "2")
		time.Sleep(time.Duration(len(all)) * readPatience / 2)
		if n := woken(all); n > 0 {
			t.Fatalf("%d are woken while half have not read", n)
		}
		time.Sleep(time.Duration(len(all)) * (readPatience + writeTime))
		if n := woken(all); n != len(all) {
			t.Fatalf("%d of %d are woken", n, len(all))
		}
		readAll(t, others)
		publish(t, b, "a", "3")
		time.Sleep(2 * time.Duration(len(all)) * writeTime)
		if n := woken(all); n != len(all) {
			t.Errorf("%d of %d are woken: others wait for those that are stalled", n, len(all))
		}
		readAll(t, stalled) // of earlier waves: they are not counted out of the last
		readAll(t, all)
		if n := b.wave.unread.Load(); n != 0 {
			t.Errorf("%d readers are left to wait for", n)
		}
	})
}

// A wave does not wait for readers that have closed.
func TestReadersThatCloseAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		all := crowd(t, b)
		publish(t, b, "a", "1")
		synctest.Wait()
		for _, s := range all {
			s.Close()
		}
		if n := b.wave.unread.Load(); n != 0 {
			t.Errorf("%d readers are left to wait for", n)
		}
	})
}
