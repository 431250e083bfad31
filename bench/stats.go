package main

import (
	"math"
	"slices"
)

// spread is the median of several figures, and their range.
type spread struct{ median, low, high float64 }

// spreadOf ignores NaN, which is a figure that was not measured. Without any figure
// it is NaN itself.
func spreadOf(figures []float64) spread {
	sorted := slices.DeleteFunc(slices.Clone(figures), math.IsNaN)
	if len(sorted) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(sorted)
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// ratios divides pairs of figures that were measured side by side. The ratio of
// figures that are not above zero is NaN.
func ratios(of, to []float64) []float64 {
	quotients := make([]float64, min(len(of), len(to)))
	for i := range quotients {
		if quotients[i] = math.NaN(); of[i] > 0 && to[i] > 0 {
			quotients[i] = of[i] / to[i]
		}
	}
	return quotients
}

// Latencies are counted in steps of 10 µs, up to 10 s.
const (
	step  = 10
	steps = 1_000_000
)

// histogram counts latencies. Its zero value is empty.
type histogram struct {
	counts []uint32
	total  int
}

// add counts a latency in microseconds.
func (h *histogram) add(late int64) {
	if h.counts == nil {
		h.counts = make([]uint32, steps)
	}
	h.counts[min(max(late, 0)/step, steps-1)]++
	h.total++
}

func (h *histogram) reset() {
	clear(h.counts)
	h.total = 0
}

// quantile is the quantile q of the latencies, in milliseconds.
func (h *histogram) quantile(q float64) float64 {
	rank := int(math.Ceil(q * float64(h.total)))
	seen := 0
	for i, n := range h.counts {
		if seen += int(n); seen >= rank && n > 0 {
			return float64((i+1)*step) / 1000
		}
	}
	return math.NaN()
}
