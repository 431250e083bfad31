package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// precision is how many bits of a value a bucket keeps: 64 buckets for each power of
// two, so that a figure is at most 1.6 % too small.
const precision = 6

// histogram counts durations. Its size does not depend on how many: 30 KB. Its methods
// are safe for concurrent use.
type histogram struct {
	buckets [(64 - precision) << precision]atomic.Uint64
	count   atomic.Uint64
	max     atomic.Int64
}

// bucketOf returns the bucket of a value, and lowest the least value of a bucket.
func bucketOf(v int64) int {
	if v < 1<<precision {
		return int(max(v, 0))
	}
	e := bits.Len64(uint64(v)) - 1 - precision
	return e<<precision + int(v>>uint(e))
}

func lowest(i int) int64 {
	if i < 2<<precision {
		return int64(i)
	}
	e := i>>precision - 1
	return int64(i&(1<<precision-1)+1<<precision) << uint(e)
}

func (h *histogram) add(d time.Duration) {
	v := max(int64(d), 0)
	h.buckets[bucketOf(v)].Add(1)
	h.count.Add(1)
	for {
		most := h.max.Load()
		if v <= most || h.max.CompareAndSwap(most, v) {
			return
		}
	}
}

// quantile returns a duration that a share q of all are not above, as exactly as
// buckets allow; 0 if there is none.
func (h *histogram) quantile(q float64) time.Duration {
	total := h.count.Load()
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	var seen uint64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen > rank {
			return time.Duration(lowest(i))
		}
	}
	return time.Duration(h.max.Load())
}

// Bar is a part of a distribution.
type Bar struct {
	To    time.Duration `json:"to_ns"` // below this
	Count uint64        `json:"count"`
}

// bars sums up the distribution by powers of two, from the first that has something to
// the last.
func (h *histogram) bars() []Bar {
	var all []Bar
	last := 0
	for i := range h.buckets {
		n := h.buckets[i].Load()
		to := time.Duration(1) << bits.Len64(uint64(lowest(i)))
		if len(all) == 0 || all[len(all)-1].To != to {
			if len(all) == 0 && n == 0 {
				continue
			}
			all = append(all, Bar{To: to})
		}
		all[len(all)-1].Count += n
		if n > 0 {
			last = len(all)
		}
	}
	return all[:last]
}
