package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// metered is a table with a rate.
func metered(perSecond float64, burst int) *Meters {
	m := new(Meters)
	m.SetRate(Rate{PerSecond: perSecond, Burst: burst})
	return m
}

// passed counts how many of n pass, one after the other.
func passed(m *Meters, key string, n int, now time.Time) (ok int) {
	for range n {
		if m.Take(key, 1, now) {
			ok++
		}
	}
	return ok
}

func TestABurstPassesAndThenTheRate(t *testing.T) {
	m, now := metered(10, 20), time.Now()
	if got := passed(m, "a", 100, now); got != 20 {
		t.Errorf("%d at once, want 20", got)
	}
	if got := passed(m, "b", 100, now); got != 20 {
		t.Errorf("another: %d at once, want 20", got)
	}
	if got := passed(m, "a", 100, now.Add(time.Second)); got != 10 {
		t.Errorf("%d a second later, want 10", got)
	}
	if got := passed(m, "a", 100, now.Add(time.Hour)); got != 20 {
		t.Errorf("%d after a quiet time, want 20", got)
	}
	if got := passed(m, "a", 100, now); got != 0 {
		t.Errorf("%d when the clock goes back, want none", got)
	}
}

func TestOverTimeNobodyIsAboveTheRate(t *testing.T) {
	m, begun := metered(50, 100), time.Now()
	now, total := begun, 0
	for now.Sub(begun) < 20*time.Second {
		now = now.Add(rand.N(100 * time.Millisecond))
		if n := rand.N(40); m.Take("a", n, now) {
			total += n
		}
	}
	if most := 100 + 50*20 + 40; total > most {
		t.Errorf("%d in 20 s, at most %d may be", total, most)
	}
	if total < 50*15 {
		t.Errorf("only %d in 20 s", total)
	}
}

func TestWhatIsMoreThanABurstIsPaidForLater(t *testing.T) {
	m, now := metered(10, 20), time.Now()
	if !m.Take("a", 1, now) || m.Take("a", 50, now) {
		t.Error("more than a burst passes a meter that is not empty")
	}
	if now = now.Add(time.Second); !m.Take("a", 50, now) {
		t.Error("more than a burst never passes")
	}
	if m.Take("a", 1, now.Add(2900*time.Millisecond)) {
		t.Error("it is not paid for")
	}
	if !m.Take("a", 1, now.Add(3100*time.Millisecond)) {
		t.Error("it is paid for longer than it lasts")
	}
}

func TestAskingCostsNothing(t *testing.T) {
	m, now := metered(1, 1), time.Now()
	for range 10 {
		if !m.Take("a", 0, now) {
			t.Fatal("nothing is too much")
		}
	}
	if !m.Take("a", 1, now) || m.Take("a", 0, now) {
		t.Error("after one there is room")
	}
}

func TestNoRateIsNoBound(t *testing.T) {
	m := new(Meters)
	m.SetRate(Rate{Unlimited: true})
	if got := passed(m, "a", 1000, time.Now()); got != 1000 || len(m.arrivals) != 0 {
		t.Errorf("%d pass, %d meters are kept", got, len(m.arrivals))
	}
}

func TestAChangedRateHoldsAtOnce(t *testing.T) {
	m, now := metered(10, 10), time.Now()
	passed(m, "a", 10, now)
	m.SetRate(Rate{PerSecond: 1, Burst: 1})
	if m.Take("a", 1, now.Add(900*time.Millisecond)) {
		t.Error("who was over the old rate is not held to it")
	}
	m.SetRate(Rate{Unlimited: true})
	if !m.Take("a", 1, now) {
		t.Error("a lifted rate still holds")
	}
}

// Whoever can make up addresses fills the table: that must neither free who is
// over the rate, nor let all newcomers pass.
func TestAFullTableForgetsNobodyWhoIsOverTheRate(t *testing.T) {
	m, now := metered(1, 2), time.Now()
	m.most = 100
	passed(m, "over", 2, now)
	total := 0
	for i := range 10_000 {
		total += passed(m, fmt.Sprint("stranger ", i), 2, now)
	}
	if len(m.arrivals) > 100 {
		t.Errorf("there are %d meters, at most 100 may be", len(m.arrivals))
	}
	if most := 2*99 + 2; total > most {
		t.Errorf("%d newcomers passed, at most %d may", total, most)
	}
	if m.Take("over", 1, now) {
		t.Error("who is over the rate was forgotten")
	}
	// When they have gone, there is room again, for each a meter of their own.
	now = now.Add(time.Minute)
	for i := range 1000 {
		if got := passed(m, fmt.Sprint("later ", i), 3, now.Add(time.Duration(i)*time.Minute)); got != 2 {
			t.Fatalf("newcomer %d: %d pass, want 2", i, got)
		}
	}
	if len(m.arrivals) > 100 {
		t.Errorf("there are %d meters", len(m.arrivals))
	}
}

// What has been used is counted whatever it was, and the next one waits for it.
func TestWhatHasBeenUsedIsCharged(t *testing.T) {
	m, now := metered(10, 20), time.Now()
	m.Charge("a", 0, now)
	m.Charge("a", 100, now)
	if m.Take("a", 0, now) || m.Take("a", 1, now.Add(8*time.Second)) {
		t.Error("it passes before what was used is paid for")
	}
	if !m.Take("a", 1, now.Add(8200*time.Millisecond)) || !m.Take("b", 20, now) {
		t.Error("it does not pass then, or another does not")
	}
	none := new(Meters)
	none.Charge("a", 100, now)
	if !none.Take("a", 1, now) {
		t.Error("without a rate it is counted")
	}
}
