package duration

import (
	"testing"
	"time"
)

func TestDaysStandBesideTheUnitsOfTime(t *testing.T) {
	const bad = -1
	for _, tt := range []struct {
		s    string
		want time.Duration
	}{
		{"30s", 30 * time.Second},
		{"1h30m", 90 * time.Minute},
		{"1d", 24 * time.Hour},
		{"1.5d", 36 * time.Hour},
		{"2d12h", 60 * time.Hour},
		{"1h2d", 49 * time.Hour},
		{"-1d", -24 * time.Hour},
		{"1d1d", 48 * time.Hour},
		{"0", 0},
		{"", bad},
		{"d", bad},
		{"1", bad},
		{"1x", bad},
		{"1dx", bad},
		{"1..5d", bad},
	} {
		got, err := Parse(tt.s)
		if (err != nil) != (tt.want == bad) || err == nil && got != tt.want {
			t.Errorf("%q: got %s, %v", tt.s, got, err)
		}
	}
	if _, err := Parse(string(make([]byte, 2000))); err == nil {
		t.Error("a duration of 2,000 bytes is read")
	}
}
