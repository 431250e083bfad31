package grip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who has taken the turns of its share takes none of others, and waits no longer than it wants.
func TestTurnsAreBoundedForAllAndForEachShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(8, 40)
		var mu sync.Mutex
		got, refused := map[string]int{}, map[string]int{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var work sync.WaitGroup
		ask := func(share string, n int) {
			for range n {
				work.Go(func() {
					release, err := turns.acquire(ctx, share)
					mu.Lock()
					switch {
					case err == nil:
						got[share]++
					case errors.Is(err, errTooManyWait):
						refused[share]++
					}
					mu.Unlock()
					if err == nil {
						time.Sleep(time.Minute)
						release()
					}
				})
			}
			synctest.Wait()
		}
		ask("a", 10)
		ask("b", 1)
		ask("", 10)
		ask("c", 1)
		if want := "map[:5 a:2 b:1] map[a:6]"; fmt.Sprint(got, refused) != want {
			t.Errorf("%v %v, want %s", got, refused, want)
		}
		if n := turns.refused(time.Now()); n != 6 {
			t.Errorf("%d are told of", n)
		}
		ask("a", 1)
		if n := turns.refused(time.Now()); n != 0 {
			t.Errorf("%d are told of within a minute", n)
		}
		time.Sleep(time.Minute)
		if n := turns.refused(time.Now()); n != 1 {
			t.Errorf("%d are told of after it", n)
		}
		work.Wait()
		if turns.waiting != 0 || len(turns.byShare) != 0 || len(turns.all) != 0 {
			t.Errorf("left: %d, %v, %d", turns.waiting, turns.byShare, len(turns.all))
		}
	})
}

// Many clients that leave at once do not have the application be told of all at once.
func TestAnApplicationIsToldOfSoManyClientsAtATime(t *testing.T) {
	var mu sync.Mutex
	now, most, told := 0, 0, 0
	let := make(chan struct{})
	s := newSite(t, func(r *http.Request) string {
		if r.Method != http.MethodPost {
			return held + "Grip-Channel: a\nGrip-Link: </gone>; rel=gone\n\ndata: 1\n\n"
		}
		mu.Lock()
		now, most = now+1, max(most, now+1)
		mu.Unlock()
		<-let
		mu.Lock()
		defer mu.Unlock()
		now, told = now-1, told+1
		return "Content-Type: text/plain\n\n"
	})
	const all = maxGone + 10
	for range all {
		s.open("/")("data: 1\n\n")
	}
	s.publisher.Hub.Drain(0)
	is := func(of *int, n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return *of == n
		}
	}
	eventually(t, "as many to be told of as may be", is(&now, maxGone))
	close(let)
	eventually(t, "all to be told of", is(&told, all))
	if most != maxGone {
		t.Errorf("%d were told of at a time", most)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	looks, patience := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
