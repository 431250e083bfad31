package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreThoseOfAllValues(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	for _, spread := range []int64{1, 50, 1000, int64(time.Millisecond), int64(time.Hour)} {
		h := new(histogram)
		all := make([]time.Duration, 10_000)
		for i := range all {
			all[i] = time.Duration(random.Int64N(spread))
			h.add(all[i])
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
			got, want := h.quantile(q), all[int(q*float64(len(all)))]
			if got > want || float64(got) < float64(want)*(1-1.0/64)-1 {
				t.Errorf("below %d the quantile %v is %d, and was to be %d", spread, q, got, want)
			}
		}
		if got := time.Duration(h.max.Load()); got != all[len(all)-1] {
			t.Errorf("the greatest is %d, not %d", got, all[len(all)-1])
		}
		var bars uint64
		for _, b := range h.bars() {
			bars += b.Count
		}
		if bars != uint64(len(all)) {
			t.Errorf("the bars have %d values", bars)
		}
	}
}

func TestEachValueIsInItsBucket(t *testing.T) {
	for _, v := range []int64{0, 1, 63, 64, 65, 127, 128, 129, 1000, 1 << 40, 1<<62 + 12345, 1<<63 - 1} {
		i := bucketOf(v)
		if low := lowest(i); low > v || i+1 < len(new(histogram).buckets) && lowest(i+1) <= v && lowest(i+1) > 0 {
			t.Errorf("%d is in the bucket from %d to %d", v, low, lowest(i+1))
		}
	}
	h := new(histogram)
	h.add(-time.Second) // a clock that went back
	if h.quantile(0.5) != 0 || h.count.Load() != 1 {
		t.Error("what is below zero is not 0")
	}
	if new(histogram).quantile(0.5) != 0 || len(new(histogram).bars()) != 0 {
		t.Error("there is something in nothing")
	}
}
