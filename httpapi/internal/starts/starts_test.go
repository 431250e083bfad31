package starts

import (
	"testing"
	"time"
)

func TestSinceIsReadAgainstTheClock(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"30s":                  now.Add(-30 * time.Second),
		"1d":                   now.Add(-24 * time.Hour),
		"2026-01-31T11:00:00Z": now.Add(-time.Hour),
		"2026-01-31T13:00:00Z": {}, // to come: from now on
	} {
		if got, earliest, err := parseSince(s, now); err != nil || earliest || !got.Equal(want) {
			t.Errorf("%s: %v, %v, %v", s, got, earliest, err)
		}
	}
}
