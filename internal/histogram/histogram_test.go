package histogram

import (
	"testing"
	"time"
)

func TestDurationsAreCountedInTheirBuckets(t *testing.T) {
	var d Durations
	for _, took := range []time.Duration{-time.Hour, 0, time.Millisecond, time.Millisecond + 1, 10 * time.Second, time.Hour} {
		d.Observe(took)
	}
	c := d.Counts()
	more := c
	c.Add(more)
	count, atMost := c.Cumulative()
	if count != 12 || len(atMost) != len(bounds) || c.Sum != 2*(time.Hour+10*time.Second+2*time.Millisecond+1) {
		t.Errorf("%d, of together %s, with %d bounds", count, c.Sum, len(atMost))
	}
	for bound, want := range map[float64]uint64{0.0005: 4, 0.001: 6, 0.0025: 8, 5: 8, 10: 10} {
		if atMost[bound] != want {
			t.Errorf("%d are at most %v s, want %d", atMost[bound], bound, want)
		}
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	var d Durations
	if n := testing.AllocsPerRun(100, func() { d.Observe(time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var d Durations
	for b.Loop() {
		d.Observe(3 * time.Millisecond)
	}
}
