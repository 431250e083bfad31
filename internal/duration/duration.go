// Package duration parses durations as Caddy's configuration does.
package duration

import (
	"errors"
	"strconv"
	"time"
)

// Parse is time.ParseDuration with days as another unit, like
// caddy.ParseDuration: 1.5d is 36 hours.
func Parse(s string) (time.Duration, error) {
	if len(s) > 1024 {
		return 0, errors.New("the duration is too long")
	}
	start := 0 // of the number before a unit
	for i := 0; i < len(s); i++ {
		c := s[i]
		number := c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+'
		if c == 'd' {
			days, err := strconv.ParseFloat(s[start:i], 64)
			if err != nil {
				return 0, err
			}
			hours := strconv.FormatFloat(days*24, 'f', -1, 64) + "h"
			s = s[:start] + hours + s[i+1:]
			i = start + len(hours) - 1
		}
		if !number {
			start = i + 1
		}
	}
	return time.ParseDuration(s)
}
