package broker

import (
	"testing"
	"time"
)

func TestHowLongToWaitBeforeReadersAreWokenAgain(t *testing.T) {
	for _, c := range []struct {
		took         time.Duration
		woken, alone int
		want         time.Duration
	}{
		{10 * time.Microsecond, 100, 100, 600 * time.Microsecond}, // what they take to write
		{10 * time.Microsecond, 100, 0, 40 * time.Microsecond},    // they space their writes: publishers need the broker
		{time.Millisecond, 10_000, 10_000, 20 * time.Millisecond},
		{time.Millisecond, 10_000, 0, 4 * time.Millisecond},
		{150 * time.Millisecond, 20_000, 20_000, 120 * time.Millisecond}, // most have written by then
		{150 * time.Millisecond, 100, 100, 600 * time.Microsecond},       // something else took that long
	} {
		if got := wakePauseAfter(c.took, c.woken, c.alone); got != c.want {
			t.Errorf("after %s for %d readers, %d of them on their own: %s, want %s", c.took, c.woken, c.alone, got, c.want)
		}
	}
}
