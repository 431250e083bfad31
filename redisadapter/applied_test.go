package redisadapter

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

func at(n uint64) broker.ID { return broker.ID{Ms: 1, N: n} }

func TestWithoutFollowerThereIsNothingToWaitFor(t *testing.T) {
	var a applied
	if !a.wait(t.Context(), at(1)) {
		t.Error("it is not applied")
	}
}

func TestWhoWaitsIsWokenWhenItsEntryIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a applied
		a.begin(at(5))
		if !a.wait(t.Context(), at(5)) {
			t.Error("what was applied at the beginning is not")
		}
		var mu sync.Mutex
		var woken []uint64
		var wg sync.WaitGroup
		for _, n := range rand.Perm(100) {
			wg.Go(func() {
				id := at(6 + uint64(n))
				if !a.wait(t.Context(), id) {
					t.Errorf("%s is not applied", id)
				}
				mu.Lock()
				defer mu.Unlock()
				woken = append(woken, id.N)
			})
		}
		synctest.Wait()
		for n := uint64(7); n <= 105; n += 7 {
			a.reached(at(n))
			synctest.Wait()
			mu.Lock()
			for _, w := range woken {
				if w > n {
					t.Errorf("%d is woken at %d", w, n)
				}
			}
			if len(woken) != int(n-5) {
				t.Errorf("%d are woken at %d", len(woken), n)
			}
			mu.Unlock()
		}
		wg.Wait()
		if len(a.waiting) != 0 {
			t.Errorf("%d wait", len(a.waiting))
		}
	})
}

func TestWhoWaitsForALostEntryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a applied
		a.begin(at(1))
		for _, tt := range []struct {
			n    uint64
			want bool
		}{{2, true}, {3, true}, {4, false}} {
			go func() {
				if got := a.wait(t.Context(), at(tt.n)); got != tt.want {
					t.Errorf("%d is %t", tt.n, got)
				}
			}()
		}
		synctest.Wait()
		a.void(at(3))
		synctest.Wait()
		go func() { a.reached(at(5)) }()
		if !a.wait(t.Context(), at(5)) {
			t.Error("what comes after is not applied")
		}
	})
}

func TestWhoWaitsEndsWithTheFollowerAndWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a applied
		a.begin(at(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a.wait(ctx, at(2)) || len(a.waiting) != 0 {
			t.Error("it is applied, or waits after its time")
		}
		go func() {
			time.Sleep(time.Second)
			a.end()
		}()
		if !a.wait(t.Context(), at(2)) {
			t.Error("it is not applied")
		}
	})
}
