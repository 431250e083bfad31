package main

import (
	"math"
	"testing"
)

// unknown is a figure that was not measured.
var unknown = math.NaN()

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		name    string
		figures []float64
		want    string
	}{
		{"one figure", []float64{2}, "2.00"},
		{"an odd number", []float64{3, 1, 20}, "3.00 (1.00–20.0)"},
		{"an even number", []float64{4, 1, 3, 2}, "2.50 (1.00–4.00)"},
		{"not all were measured", []float64{unknown, 1, 3}, "2.00 (1.00–3.00)"},
		{"nothing was measured", []float64{unknown}, "–"},
		{"large ones", []float64{1_234_567, 12_345, 7_654_321}, "1.23 M (12 k–7.65 M)"},
		{"all sizes", []float64{-0.126, 123.4, 99.96}, "100.0 (-0.13–123)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := spreadOf(tt.figures).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRatiosAreOfPairs(t *testing.T) {
	got := ratios([]float64{10, 30, 1, -1, unknown, 5}, []float64{5, 10, 0, 1, 1, 5})
	for i, want := range []float64{2, 3, unknown, unknown, unknown, 1} {
		if got[i] != want && !(math.IsNaN(got[i]) && math.IsNaN(want)) {
			t.Errorf("pair %d: %v, want %v", i, got[i], want)
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	if q := h.quantile(0.5); !math.IsNaN(q) {
		t.Errorf("of nothing: %v", q)
	}
	for i := range int64(100) {
		h.add(i * 1000) // 0 to 99 ms
	}
	for q, want := range map[float64]float64{0: 0.01, 0.01: 0.01, 0.5: 49.01, 0.99: 98.01, 1: 99.01} {
		if got := h.quantile(q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	h.reset()
	h.add(-5)             // the clock was set back
	h.add(math.MaxInt64)  // counts as the largest
	h.add(steps*step + 1) // so does this
	for q, want := range map[float64]float64{0.3: 0.01, 0.5: 10_000, 1: 10_000} {
		if got := h.quantile(q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
}
