// Package histogram counts how long something has taken, at the cost of two additions.
package histogram

import (
	"slices"
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the buckets, but for the last one, which has none.
var bounds = [...]time.Duration{
	time.Millisecond / 2, time.Millisecond, 5 * time.Millisecond / 2, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 5 * time.Second / 2, 5 * time.Second, 10 * time.Second,
}

// Bounds returns the upper bounds of all buckets but the last one.
func Bounds() []time.Duration { return slices.Clone(bounds[:]) }

// Durations counts durations. The zero value is ready to use; the methods are safe for
// concurrent use.
type Durations struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

// Observe counts a duration. One below 0, by a clock that was set back, counts as 0.
func (d *Durations) Observe(took time.Duration) {
	took = max(took, 0)
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	d.buckets[i].Add(1)
	d.sum.Add(int64(took))
}

// Counts is what Durations have counted.
type Counts struct {
	Buckets [len(bounds) + 1]uint64 // how many there are in each bucket alone
	Sum     time.Duration
}

// Counts returns what was counted so far.
func (d *Durations) Counts() (c Counts) {
	for i := range d.buckets {
		c.Buckets[i] = d.buckets[i].Load()
	}
	c.Sum = time.Duration(d.sum.Load())
	return c
}

// Add adds what others have counted.
func (c *Counts) Add(more Counts) {
	for i, n := range more.Buckets {
		c.Buckets[i] += n
	}
	c.Sum += more.Sum
}

// Cumulative returns how many durations there are, and how many of them are at most as
// long as each bound, in seconds.
func (c *Counts) Cumulative() (count uint64, atMost map[float64]uint64) {
	atMost = make(map[float64]uint64, len(bounds))
	for i, n := range c.Buckets {
		count += n
		if i < len(bounds) {
			atMost[bounds[i].Seconds()] = count
		}
	}
	return count, atMost
}
